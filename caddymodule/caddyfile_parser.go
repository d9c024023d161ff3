package caddymodule

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// errArguments says that a line has too few or too many arguments. The block
// that the line belongs to adds how to write it.
var errArguments = errors.New("wrong arguments")

// parser fills options from the tokens of one mcp_auth block.
type parser struct {
	*caddyfile.Dispenser
	options *Options
	logins  []LoginModule // so far

	// Where each field was set, by the path that the field has in JSON, so
	// that an error of Options.validate gets the line it is about.
	lines map[string]caddyfile.Token
}

// subdirective is one kind of line in a block.
type subdirective struct {
	// How to write the line, and an example where that does not say it all.
	usage, example string

	// The line may be there several times.
	repeats bool

	// Reads the arguments and the block of the line, whose first word is the
	// current token. An errArguments gets its text from the fields above.
	read func() error
}

// howTo says how to write the line.
func (s subdirective) howTo() string {
	if s.example == "" {
		return s.usage
	}
	return s.usage + ", for example: " + s.example
}

// readBlock reads the block that may open at the end of the current line. Its
// lines are fields below path, which is empty or ends in a dot.
func (p *parser) readBlock(name, path string, known map[string]subdirective) error {
	seen := make(map[string]bool, len(known))
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		word := p.Val()
		sub, ok := known[word]
		switch {
		case !ok:
			return p.unknown(name, known)
		case seen[word] && !sub.repeats:
			return p.Errf("%s has '%s' twice; keep one line: %s", name, word, sub.howTo())
		}
		seen[word] = true
		p.mark(path + word)
		err := sub.read()
		if err == nil && p.NextArg() {
			err = errArguments
		}
		if errors.Is(err, errArguments) {
			return p.Errf("the arguments of '%s' do not fit. Write: %s", word, sub.howTo())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reverseProxyWords are lines that people expect to work in the shortcut form,
// because it proxies.
var reverseProxyWords = []string{
	"to", "dynamic", "transport", "header_up", "header_down", "flush_interval", "handle_response",
	"lb_policy", "lb_retries", "lb_try_duration", "health_uri", "health_port", "health_interval", "fail_duration",
	"max_fails", "rewrite", "method", "trusted_proxies", "stream_timeout", "stream_close_delay",
}

// unknown is the error for a line that the block does not have.
func (p *parser) unknown(name string, known map[string]subdirective) error {
	word := p.Val()
	if word == "{" {
		return p.Errf("%s has a block where none belongs; take the braces away", name)
	}
	if near := nearest(word, maps.Keys(known)); near != "" {
		return p.Errf("%s has no '%s'. Did you mean '%s'? Write: %s", name, word, near, known[near].howTo())
	}
	if name == "mcp_auth" && slices.Contains(reverseProxyWords, word) {
		return p.Errf("'%s' belongs to reverse_proxy. Write 'mcp_auth' without upstreams, and a reverse_proxy of your own "+
			"that has this line", word)
	}
	return p.Errf("%s has no '%s'. It has: %s", name, word, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

// mark remembers the current line as the one that sets the field at path.
func (p *parser) mark(path string) { p.lines[path] = p.Token() }

// validate runs the checks that hold for JSON as well, and puts the line into
// the error.
func (p *parser) validate() error {
	err := p.options.validate()
	fault, ok := errors.AsType[*fieldError](err)
	if !ok {
		return err
	}
	return p.at(fault.path).WrapErr(fault.err)
}

// at returns a dispenser that stands on the line that set the field at path, or
// the closest field around it.
func (p *parser) at(path string) *caddyfile.Dispenser {
	for path != "" {
		if token, ok := p.lines[path]; ok {
			return lineOf(token)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return p.Dispenser
}

// text reads one argument that is not empty.
func (p *parser) text(to *string) func() error {
	return func() error {
		if !p.NextArg() || p.Val() == "" {
			return errArguments
		}
		*to = p.Val()
		return nil
	}
}

// list reads one argument or more. Called again it adds to what is there.
func (p *parser) list(path string, to *[]string) func() error {
	return func() error {
		args := p.RemainingArgs()
		if len(args) == 0 {
			return errArguments
		}
		for _, arg := range args {
			p.mark(indexed(path, len(*to)))
			*to = append(*to, arg)
		}
		return nil
	}
}

// flag reads on, off, true or false; no argument means on.
func (p *parser) flag(to **bool) func() error {
	return func() error {
		on := true
		if p.NextArg() {
			switch p.Val() {
			case "on", "true":
			case "off", "false":
				on = false
			default:
				return errArguments
			}
		}
		*to = &on
		return nil
	}
}

// duration reads a duration with a unit from ns to d. A zero is refused here and
// not by Options.validate, because in JSON it stands for the default.
func (p *parser) duration(to *caddy.Duration) func() error {
	return func() error {
		if !p.NextArg() {
			return errArguments
		}
		d, err := caddy.ParseDuration(p.Val())
		switch {
		case err != nil:
			return p.Errf("%q is no duration. Write a number with one of the units s, m, h or d, for example: 30m", p.Val())
		case d == 0:
			return p.Errf("a duration of zero switches nothing off. Leave the line out for the default, or write, for example: 30m")
		}
		*to = caddy.Duration(d)
		return nil
	}
}
