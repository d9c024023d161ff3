package assertion_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/assertion"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/jwks/jwkstest"
)

// signed signs a payload with a key that is of no account here.
func signed(t testing.TB, typ, payload string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]any{}
	if typ != "" {
		header["typ"] = typ
	}
	return jwkstest.Sign(t, jose.JSONWebKey{Key: key, Algorithm: "ES256"}, header, []byte(payload))
}

func TestTypesOfAssertions(t *testing.T) {
	for _, tt := range []struct {
		typ   string
		types []string
		good  bool
	}{
		{"JWT", []string{"", "jwt"}, true},
		{"", []string{"", "jwt"}, true},
		{"oauth-id-jag+jwt", []string{"oauth-id-jag+jwt"}, true},
		{"OAuth-ID-JAG+JWT", []string{"oauth-id-jag+jwt"}, true},
		{"", []string{"oauth-id-jag+jwt"}, false},
		{"JWT", []string{"oauth-id-jag+jwt"}, false},
		{"application/oauth-id-jag+jwt", []string{"oauth-id-jag+jwt"}, false},
		{"oauth-id-jag+jwt", []string{"", "jwt"}, false},
	} {
		if _, err := assertion.Parse(signed(t, tt.typ, "{}"), tt.types...); (err == nil) != tt.good {
			t.Errorf("typ %q where %q belong: %v", tt.typ, tt.types, err)
		}
	}
}

func TestClaimsCountByTheirExactNames(t *testing.T) {
	a, err := assertion.Parse(signed(t, "", `{"iss":"a","ISS":"b","Sub":"c","aud":["d"],"jti":"1","jti":"2","exp":1.5,"x":null,"y":7}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if a.Issuer != "a" || a.Subject != "" || a.Audience != "d" || a.ID != "2" || a.Expires == nil || *a.Expires != 1.5 || a.IssuedAt != nil {
		t.Errorf("got %+v", a)
	}
	var text string
	if a.Has("X") || !a.Has("x") || a.Claim("z", &text) != nil || a.Claim("y", &text) == nil {
		t.Error("a claim is taken for another one, or for another type")
	}
}

// FuzzParse looks for assertions that are let through and could be of use for
// ever, for somebody else, or more than once.
func FuzzParse(f *testing.F) {
	const server = "https://mcp.example"
	now := time.Now()
	in := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	for _, payload := range []string{
		`{"iss":"a","sub":"a","aud":"` + server + `","jti":"1","exp":` + in(time.Minute) + `}`,
		`{"aud":["` + server + `"],"jti":"1","exp":` + in(time.Hour) + `.5,"iat":1e300,"nbf":-1}`,
		`{"aud":["` + server + `","b"],"jti":["1"]}`, `[]`, `null`, ``, `{"exp":1e999}`,
	} {
		f.Add("", payload)
		f.Add("JWT", payload)
	}
	f.Fuzz(func(t *testing.T, typ, payload string) {
		if strings.ContainsFunc(typ, func(r rune) bool { return r < ' ' || r > '~' }) {
			return
		}
		a, err := assertion.Parse(signed(t, typ, payload), "", "jwt")
		if err == nil {
			err = a.Check([]string{server}, now)
		}
		if err != nil {
			if _, ok := errors.AsType[assertion.Refusal](err); !ok {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		if left := a.Ends().Sub(now); a.Audience != server || a.ID == "" || left <= 0 || left > assertion.Lifetime+4*time.Minute {
			t.Errorf("%q is let through for %v: %+v", payload, left, a)
		}
	})
}
