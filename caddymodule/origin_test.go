package caddymodule

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
)

// provisioned returns the app of a configuration that is loaded but not started.
// A configuration that begins with a brace and a quote is JSON.
func provisioned(t testing.TB, config string) *builder {
	t.Helper()
	raw := []byte(config)
	if !strings.HasPrefix(strings.TrimSpace(config), `{"`) {
		var err error
		if raw, _, err = caddyconfig.GetAdapter("caddyfile").Adapt(raw, nil); err != nil {
			t.Fatal(err)
		}
	}
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("mcp_auth")
	if err != nil {
		t.Fatal(err)
	}
	web, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	return &builder{app: app.(*App), web: web.(*caddyhttp.App)}
}

// siteOrigins are configurations with the origins of their sites, in order.
var siteOrigins = map[string]struct {
	config string
	want   []string
}{
	"the host of the address":      {"mcp.example.com {\nmcp_auth\n}", []string{"https://mcp.example.com"}},
	"capitals are lowered":         {"MCP.Example.com {\nmcp_auth\n}", []string{"https://mcp.example.com"}},
	"names in other scripts":       {"bücher.example {\nmcp_auth\n}", []string{"https://xn--bcher-kva.example"}},
	"the port of the address":      {"mcp.example.com:8443 {\nmcp_auth\n}", []string{"https://mcp.example.com:8443"}},
	"https on port 443":            {"https://mcp.example.com:443 {\nmcp_auth\n}", []string{"https://mcp.example.com"}},
	"plain http on loopback":       {"http://localhost:8080 {\nmcp_auth\n}", []string{"http://localhost:8080"}},
	"plain http on port 80":        {"http://localhost {\nmcp_auth\n}", []string{"http://localhost"}},
	"an IPv4 address":              {"http://127.0.0.1:8080 {\nmcp_auth\n}", []string{"http://127.0.0.1:8080"}},
	"an IPv6 address":              {"http://[::1]:8080 {\nmcp_auth\n}", []string{"http://[::1]:8080"}},
	"an IPv6 address on port 80":   {"http://[::1] {\nmcp_auth\n}", []string{"http://[::1]"}},
	"the port of the http option":  {"{\nhttp_port 8080\n}\nhttp://localhost {\nmcp_auth\n}", []string{"http://localhost:8080"}},
	"the port of the https option": {"{\nhttps_port 8443\n}\nlocalhost {\nmcp_auth\n}", []string{"https://localhost:8443"}},
	"bind has no say":              {"mcp.example.com {\nbind 127.0.0.1 ::1\nmcp_auth\n}", []string{"https://mcp.example.com"}},
	"a placeholder of the environment": {
		"http://localhost {\n@env host {env.MCP_TEST_HOST}\nhandle @env {\nmcp_auth {\nissuer https://env.example.com\n}\n}\n}",
		[]string{"https://env.example.com"},
	},
	"inside handle and route": {
		"mcp.example.com {\nhandle /a/* {\nroute {\nmcp_auth\n}\n}\n}", []string{"https://mcp.example.com"},
	},
	"inside handle_path": {"mcp.example.com {\nhandle_path /a/* {\nmcp_auth\n}\n}", []string{"https://mcp.example.com"}},
	"in a named route":   {"&(mcp) {\nmcp_auth\n}\nmcp.example.com {\ninvoke mcp\n}", []string{"https://mcp.example.com"}},
	"a host matcher inside a wildcard site": {
		"*.example.com {\n@mcp host mcp.example.com\nhandle @mcp {\nmcp_auth\n}\n}", []string{"https://mcp.example.com"},
	},
	"a host matcher inside a site of several addresses": {
		"a.example.com, b.example.com {\n@b host b.example.com\nhandle @b {\nmcp_auth\n}\n}", []string{"https://b.example.com"},
	},
	"a wildcard inside a site": {
		"a.example.com {\n@any host *.example.com\nhandle @any {\nmcp_auth\n}\n}", []string{"https://a.example.com"},
	},
	"a placeholder of the request inside a site": {
		"http://localhost {\n@h host {http.request.header.X}\nhandle @h {\nmcp_auth\n}\n}", []string{"http://localhost"},
	},
	"the issuer of a wildcard site": {
		"*.example.com {\nmcp_auth {\nissuer https://mcp.example.com\n}\n}", []string{"https://mcp.example.com"},
	},
	"the issuer among several addresses": {
		"a.example.com, b.example.com {\nmcp_auth {\nissuer https://b.example.com\n}\n}", []string{"https://b.example.com"},
	},
	"the issuer of a site without a host": {
		":8080 {\nmcp_auth {\nissuer https://mcp.example.com\n}\n}", []string{"https://mcp.example.com"},
	},
	"the issuer behind a proxy that ends TLS": {
		"http://mcp.example.com {\nmcp_auth {\nissuer https://mcp.example.com\n}\n}", []string{"https://mcp.example.com"},
	},
	"the issuer behind a mapped port": {
		"localhost:8443 {\nmcp_auth {\nissuer https://localhost\n}\n}", []string{"https://localhost"},
	},
	"the issuer of a site on a Unix socket": {
		"http://mcp.example.com {\nbind unix//tmp/mcp-auth-test.sock\nmcp_auth {\nissuer https://mcp.example.com\n}\n}",
		[]string{"https://mcp.example.com"},
	},
	"the issuer is another site": {
		"{\nmcp_auth {\nissuer https://auth.example.com\n}\n}\nauth.example.com {\nmcp_auth\n}\nmcp.example.com {\nmcp_auth\n}",
		[]string{"https://auth.example.com", "https://mcp.example.com"},
	},
	"the issuer is another port of the host": {
		"{\nmcp_auth {\nissuer https://localhost:8443\n}\n}\nlocalhost:8443 {\nmcp_auth\n}\nlocalhost:9443 {\nmcp_auth\n}",
		[]string{"https://localhost:8443", "https://localhost:9443"},
	},
	"two directives in one site": {
		"mcp.example.com {\nhandle /a/* {\nmcp_auth\n}\nhandle {\nmcp_auth\n}\n}",
		[]string{"https://mcp.example.com", "https://mcp.example.com"},
	},
	"both schemes on loopback": {
		"http://localhost, https://localhost {\nmcp_auth\n}", []string{"https://localhost", "http://localhost"},
	},
	"JSON with the plain port first": {
		`{"apps": {"http": {"servers": {"s": {"listen": [":80", ":8443"], "routes": [{"match": [{"host": ["mcp.example.com"]}],
			"handle": [{"handler": "mcp_auth"}]}]}}}}}`,
		[]string{"https://mcp.example.com:8443"},
	},
	"JSON with a set of matchers that has no host inside one that has": {
		`{"apps": {"http": {"servers": {"s": {"listen": [":443"], "routes": [{"match": [{"host": ["mcp.example.com"]}],
			"handle": [{"handler": "subroute", "routes": [{"match": [{"host": ["x.example.com"]}, {"path": ["/a"]}],
			"handle": [{"handler": "mcp_auth"}]}]}]}]}}}}}`,
		[]string{"https://mcp.example.com"},
	},
}

func TestTheOriginOfASiteIsReadFromItsConfiguration(t *testing.T) {
	t.Setenv("MCP_TEST_HOST", "Env.Example.com")
	for name, tt := range siteOrigins {
		t.Run(name, func(t *testing.T) {
			b := provisioned(t, tt.config)
			if err := b.addSites(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range b.sites {
				got = append(got, s.origin)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("origins (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASiteThatNobodyCanFindIsRefused(t *testing.T) {
	const issuerLine = " Add a line with the one that clients use, for example: issuer https://mcp.example.com"
	const global = "{\nmcp_auth {\nissuer https://auth.example.com\n}\n}\nauth.example.com {\nmcp_auth\n}\n"
	const stolen = "this site is served over plain http, where tokens can be stolen. "
	for name, tt := range map[string]struct{ caddyfile, want string }{
		"no host": {
			":8080 {\nmcp_auth\n}",
			"the address of this site (:8080) has no host, so nobody knows where clients find it." + issuerLine,
		},
		"no host, and the issuer is elsewhere": {
			global + ":8080 {\nmcp_auth\n}",
			"the address of this site (:8080) has no host, so nobody knows where clients find it. " +
				"Give the site the address that clients use, for example: mcp.example.com",
		},
		"several hosts": {
			"a.example.com, b.example.com {\nmcp_auth\n}",
			"this site has several addresses (a.example.com, b.example.com)." + issuerLine,
		},
		"several hosts, and the issuer is elsewhere": {
			global + "a.example.com, b.example.com {\nmcp_auth\n}",
			"this site has several addresses (a.example.com, b.example.com). Write one site for each of them",
		},
		"a named route of two sites": {
			"&(mcp) {\nmcp_auth\n}\na.example.com {\ninvoke mcp\n}\nb.example.com {\ninvoke mcp\n}",
			"this site has several addresses (a.example.com, b.example.com)." + issuerLine,
		},
		"a wildcard": {
			"*.example.com {\nmcp_auth\n}",
			"the address '*.example.com' of this site stands for many hosts." + issuerLine,
		},
		"plain http": {
			"http://mcp.example.com {\nmcp_auth\n}",
			stolen + "Serve it over https, or, when another proxy in front of it does, add the line: issuer https://mcp.example.com",
		},
		"plain http beside https": {
			"http://mcp.example.com, https://mcp.example.com {\nmcp_auth\n}",
			stolen + "Take the address http://mcp.example.com away: it is redirected to https without it",
		},
		"plain http beside the https of the issuer": {
			"http://mcp.example.com, https://mcp.example.com {\nmcp_auth {\nissuer https://mcp.example.com\n}\n}",
			stolen + "Take the address http://mcp.example.com away: it is redirected to https without it",
		},
		"plain http behind a proxy that changes the host": {
			"http://inside.example.com {\nmcp_auth {\nissuer https://mcp.example.com\n}\n}",
			stolen + "Serve it over https: inside.example.com; or, when another proxy in front of it does, give it the host that clients use",
		},
		"a route that is for errors": {
			"mcp.example.com {\nhandle_errors {\nmcp_auth\n}\n}",
			errNoPlace.Error(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := provisioned(t, tt.caddyfile).addSites()
			if err == nil || err.Error() != tt.want {
				t.Errorf("got the error\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}
