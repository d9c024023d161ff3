package external_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/external"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/outbound"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/token"
)

// wireless is a network without one, so that tests own the clock.
type wireless struct{ http.Handler }

func (n wireless) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	return w.Result(), nil
}

// inBubble runs a test with an issuer and a clock of its own.
func inBubble(t *testing.T, f func(t *testing.T, i *issuer, v *external.Verifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{t: t, url: "http://localhost:1/realm"}
		d := external.NewDirectoryWith(outbound.NewWith(outbound.Options{Transport: wireless{i}}))
		f(t, i, external.New(d, []external.Server{{Issuer: i.url}}, nil))
	})
}

func TestANewKeyCostsNoFailedRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, v *external.Verifier) {
		old := i.newKey("k1")
		if _, err := verify(t, v, sign(t, old, nil, i.claims(nil))); err != nil {
			t.Fatal(err)
		}
		for round := range 5 {
			time.Sleep(time.Millisecond) // no two things happen at the same moment
			fresh := i.newKey(fmt.Sprint("new", round))
			var all sync.WaitGroup
			for n := range 50 {
				raw := sign(t, fresh, nil, i.claims(map[string]any{"jti": n}))
				all.Go(func() {
					if _, err := verify(t, v, raw); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			all.Wait()
		}
		if n := i.fetched.Load(); n > 7 {
			t.Errorf("the keys were fetched %d times for 5 new ones", n)
		}
	})
}

// Whoever sends tokens with keys that do not exist makes the gateway ask, but not
// often.
func TestUnknownKeysAreAskedForSeldom(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, v *external.Verifier) {
		key := i.newKey("k1")
		good := sign(t, key, nil, i.claims(nil))
		var over atomic.Bool
		var all sync.WaitGroup
		for n := range 100 {
			key.KeyID = fmt.Sprint("made up ", n)
			raw := sign(t, key, nil, i.claims(nil))
			all.Go(func() {
				for !over.Load() {
					if _, err := verify(t, v, raw); !errors.Is(err, token.ErrMalformed) {
						t.Errorf("got %v, want ErrMalformed", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for range 60 {
			time.Sleep(time.Second)
			if _, err := verify(t, v, good); err != nil {
				t.Errorf("a good token: %v", err)
			}
		}
		over.Store(true)
		all.Wait()
		if n := i.fetched.Load(); n > 25 {
			t.Errorf("the keys were fetched %d times in a minute", n)
		}
	})
}

func TestAKeyThatIsTakenAwayIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, v *external.Verifier) {
		gone, kept := i.newKey("k1"), i.newKey("k2")
		tomorrow := map[string]any{"exp": time.Now().Add(48 * time.Hour).Unix()}
		first, second := sign(t, gone, nil, i.claims(tomorrow)), sign(t, kept, nil, i.claims(tomorrow))
		for _, raw := range []string{first, second} {
			if _, err := verify(t, v, raw); err != nil {
				t.Fatal(err)
			}
		}
		i.change(func() { i.keys = i.keys[1:] })
		time.Sleep(61 * time.Minute) // longer than keys count as fresh
		_, _ = verify(t, v, second)  // makes the keys be fetched, behind its back
		synctest.Wait()
		if _, err := verify(t, v, first); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("got %v, want ErrMalformed", err)
		}
		if _, err := verify(t, v, second); err != nil {
			t.Errorf("the other key: %v", err)
		}
	})
}

func TestAnIssuerThatIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T, i *issuer, v *external.Verifier) {
		key := i.newKey("k1")
		long := func(hours int) string {
			return sign(t, key, nil, i.claims(map[string]any{"exp": time.Now().Add(72 * time.Hour).Unix(), "jti": hours}))
		}
		i.change(func() { i.down = true })
		for range 3 {
			if _, err := verify(t, v, long(0)); !errors.Is(err, token.ErrUnavailable) {
				t.Fatalf("from the start: got %v, want ErrUnavailable", err)
			}
		}
		i.change(func() { i.down = false })
		time.Sleep(outbound.PauseTime + time.Second)
		seen := long(0)
		if _, err := verify(t, v, seen); err != nil {
			t.Fatalf("after it has come back: %v", err)
		}
		i.change(func() { i.down = true })
		for hours := range 24 {
			time.Sleep(time.Hour)
			for _, raw := range []string{seen, long(hours)} {
				if _, err := verify(t, v, raw); err != nil {
					t.Fatalf("down for %d hours: %v", hours+1, err)
				}
			}
		}
		other := key
		other.KeyID = "k2"
		if _, err := verify(t, v, sign(t, other, nil, i.claims(nil))); !errors.Is(err, token.ErrUnavailable) {
			t.Errorf("a key that may be new: got %v, want ErrUnavailable", err)
		}
		time.Sleep(2 * time.Hour)
		for _, raw := range []string{seen, long(99)} {
			if _, err := verify(t, v, raw); !errors.Is(err, token.ErrUnavailable) {
				t.Errorf("down for more than a day: got %v, want ErrUnavailable", err)
			}
		}
	})
}

func TestTheMetadataOfAnIssuer(t *testing.T) {
	for name, tt := range map[string]struct {
		metadata map[string]any
		want     error
	}{
		"right":                 {nil, nil},
		"of another issuer":     {map[string]any{"issuer": "http://localhost:1/other"}, token.ErrUnavailable},
		"with a slash more":     {map[string]any{"issuer": "http://localhost:1/realm/"}, token.ErrUnavailable},
		"without an issuer":     {map[string]any{"issuer": nil}, token.ErrUnavailable},
		"without keys":          {map[string]any{"jwks_uri": nil}, token.ErrUnavailable},
		"keys over plain http":  {map[string]any{"jwks_uri": "http://keys.example.com/jwks"}, token.ErrUnavailable},
		"keys in a file":        {map[string]any{"jwks_uri": "file:///etc/jwks"}, token.ErrUnavailable},
		"keys that are missing": {map[string]any{"jwks_uri": "http://localhost:1/nothing"}, token.ErrUnavailable},
		"keys elsewhere":        {map[string]any{"jwks_uri": "https://keys.example.com/jwks"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, i *issuer, v *external.Verifier) {
				i.metadata = tt.metadata
				if _, err := verify(t, v, sign(t, i.newKey("k1"), nil, i.claims(nil))); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// Sets of keys hold what nobody can use, and what nobody should.
func TestUnusableKeysAreLeftOut(t *testing.T) {
	for name, body := range map[string]string{
		"no keys":          `{"keys":[]}`,
		"no set":           `[]`,
		"a secret":         `{"keys":[{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0","kid":"k1","alg":"HS256"}]}`,
		"a short RSA key":  `{"keys":[{"kty":"RSA","n":"` + strings.Repeat("_", 170) + `","e":"AQAB","kid":"k1"}]}`,
		"an unknown kind":  `{"keys":[{"kty":"AKP","kid":"k1"}]}`,
		"far too many":     `{"keys":[` + strings.Repeat(`{"kty":"AKP"},`, 64) + `{"kty":"AKP"}]}`,
		"far too long":     `{"keys":[],"x":"` + strings.Repeat("x", outbound.MaxOperatorLength) + `"}`,
		"something broken": `{"keys":[`,
	} {
		t.Run(name, func(t *testing.T) {
			serve := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(body))
			})
			d := external.NewDirectoryWith(outbound.NewWith(outbound.Options{Transport: wireless{serve}}))
			i := &issuer{t: t, url: "https://id.example.com"}
			v := external.New(d, []external.Server{{Issuer: i.url, JWKSURI: "https://id.example.com/jwks"}}, nil)
			if _, err := verify(t, v, sign(t, i.newKey("k1"), nil, i.claims(nil))); !errors.Is(err, token.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
}
