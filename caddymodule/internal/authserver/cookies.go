package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"time"
)

// cookieJar names the cookies. Over https they have the __Host- prefix, which
// keeps other hosts and other paths from setting them; on the plain loopback
// origin of local development browsers do not allow it.
type cookieJar struct{ secure bool }

// CookieNames are all names that cookies of this server can have. None of them
// ever reaches the upstream.
var CookieNames = []string{"__Host-mcp_session", "__Host-mcp_browser", "mcp_session", "mcp_browser"}

func (j cookieJar) name(base string) string {
	if j.secure {
		return "__Host-" + base
	}
	return base
}

func (j cookieJar) sessionName() string { return j.name("mcp_session") }
func (j cookieJar) browserName() string { return j.name("mcp_browser") }

// read returns the value of a cookie, or "" when it is absent or stands there
// twice, since then nobody knows who set which.
func (j cookieJar) read(r *http.Request, name string) string {
	cookies := r.CookiesNamed(name)
	if len(cookies) != 1 || len(cookies[0].Value) > 256 {
		return ""
	}
	return cookies[0].Value
}

// set writes a cookie. SameSite=Lax lets it come along when another site sends
// the browser to /authorize, and never with a form of another site.
func (j cookieJar) set(w http.ResponseWriter, name, value string, lifetime time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure is off on the plain loopback origin only
		Name: name, Value: value, Path: "/", MaxAge: int(lifetime.Seconds()),
		Secure: j.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func (j cookieJar) clear(w http.ResponseWriter, name string) { j.set(w, name, "", -time.Second) }

// browserLifetime is how long a browser is recognized as the one that began a
// transaction.
const browserLifetime = 24 * time.Hour

// browser returns the hash that binds transactions to this browser, or nil for a
// browser that has no cookie yet.
func (j cookieJar) browser(r *http.Request) []byte {
	value := j.read(r, j.browserName())
	if len(value) != len(rand.Text()) {
		return nil
	}
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}

// ensureBrowser is browser, but gives the browser a cookie when it has none.
func (j cookieJar) ensureBrowser(w http.ResponseWriter, r *http.Request) []byte {
	if b := j.browser(r); b != nil {
		return b
	}
	value := rand.Text()
	j.set(w, j.browserName(), value, browserLifetime)
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}
