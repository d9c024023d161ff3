// Package pages renders every HTML page of the authorization server: sign-in,
// consent, the hand-off back to the app, errors, connected apps and the
// landing page.
//
// A page is one response. It runs no script, loads nothing, and carries its
// one style sheet inline under a hash in the Content-Security-Policy. Whatever
// a client said about itself is data: it is cleaned, isolated from the text
// around it, put in quotation marks unless someone vouches for it, and always
// shown next to the host that will receive the access.
//
// The consent form is answered with a page (see [Renderer.Handoff]) and not
// with a redirect, because browsers apply form-action to the whole chain of
// redirects that follows a form.
package pages
