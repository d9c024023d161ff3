// Package oidclogin signs people in at an OpenID provider, by the authorization
// code flow of OpenID Connect Core 1.0 with PKCE.
package oidclogin
