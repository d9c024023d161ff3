package pages

import "net/http"

// Protect tells browsers what holds for every answer that people get on a page's
// address, redirects and errors included: it is not stored, not framed, not
// embedded elsewhere and not taken for another type, its address is told to
// nobody, and it loads and does nothing. A page that is rendered replaces the
// last of these by its own policy.
func Protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}
