package caddymodule

// upstreamLines are those about what an upstream is told. They stand in the block
// of the directive, for all resources, or in that of one resource. path is what
// the fields' names follow.
func (p *parser) upstreamLines(path string, a **Assertion, c **Credential) map[string]subdirective {
	return map[string]subdirective{
		"forward_assertion": {
			usage: "forward_assertion [<header>] [{ … }]", example: "forward_assertion X-Mcp-Assertion",
			read: func() error { return p.forwardAssertion(path+"forward_assertion", a) },
		},
		"upstream_credential": {
			usage: "upstream_credential [<header>] <secret>|login <id> [<header>]", example: credentialExample,
			read: func() error { return p.upstreamCredential(c) },
		},
	}
}

func (p *parser) forwardAssertion(path string, to **Assertion) error {
	a := new(Assertion)
	*to = a
	if p.NextArg() {
		a.Header = p.Val()
	}
	return p.readBlock("forward_assertion", path+".", map[string]subdirective{
		"audience": {usage: "audience <value>", example: "audience https://bugs.internal", read: p.text(&a.Audience)},
	})
}

// upstreamCredential reads a secret, a header and a secret, or the word login, the
// name of one, and perhaps a header.
func (p *parser) upstreamCredential(to **Credential) error {
	c := new(Credential)
	*to = c
	args := p.RemainingArgs()
	switch {
	case len(args) > 1 && args[0] == "login":
		c.Login, args = args[1], args[2:]
		if len(args) == 1 {
			c.Header, args = args[0], nil
		}
	case len(args) == 2:
		c.Header, args = args[0], args[1:]
		fallthrough
	case len(args) == 1:
		c.Secret, args = args[0], nil
	default:
		return errArguments
	}
	if len(args) > 0 {
		return errArguments
	}
	return nil
}
