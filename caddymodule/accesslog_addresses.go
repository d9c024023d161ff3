package caddymodule

import (
	"net/http"
	"net/url"
	"strings"
)

// secretParameters are the names of query parameters whose values are kept out of
// logs, in lower case.
var secretParameters = map[string]bool{
	"access_token": true, "assertion": true, "client_assertion": true, "client_secret": true, "code": true, "code_verifier": true,
	"continue": true, "device_code": true, "id_token": true, "id_token_hint": true, "password": true, "refresh_token": true,
	"registration_access_token": true, "request": true, "state": true, "subject_token": true, "token": true, "user_code": true,
}

// redacted stands in place of a secret, as in Caddy's own lines.
const redacted = "REDACTED"

// withoutSecrets is an address without the values of secret parameters, in its query
// or its fragment. It reports false when there are none. Some servers take semicolons
// for separators as well, so that they begin a parameter here; a secret value ends
// only where all servers agree.
func withoutSecrets(address string) (string, bool) {
	start := strings.IndexAny(address, "?#")
	if start < 0 {
		return address, false
	}
	var out strings.Builder
	copied, changed := 0, false
	for i := start; i < len(address); {
		i++ // over the separator
		name := address[i:]
		if end := strings.IndexAny(name, "=&;?#"); end >= 0 {
			name = name[:end]
		}
		i += len(name)
		if i == len(address) || address[i] != '=' {
			continue
		}
		i++
		value, separators := address[i:], "&;?#"
		secret := isSecretParameter(name)
		if secret {
			separators = "&"
		}
		if end := strings.IndexAny(value, separators); end >= 0 {
			value = value[:end]
		}
		if secret && value != "" {
			out.WriteString(address[copied:i] + redacted)
			copied, changed = i+len(value), true
		}
		i += len(value)
	}
	if !changed {
		return address, false
	}
	return out.String() + address[copied:], true
}

func isSecretParameter(name string) bool {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	return secretParameters[strings.ToLower(name)]
}

// withoutSecretsIn returns headers in which the addresses of some names have no
// secrets. It reports false, and returns the headers themselves, when they had none.
func withoutSecretsIn(h http.Header, names ...string) (http.Header, bool) {
	changed := false
	for _, name := range names {
		for i, value := range h[name] {
			clean, secret := withoutSecrets(value)
			if !secret {
				continue
			}
			if !changed {
				h, changed = h.Clone(), true
			}
			h[name][i] = clean
		}
	}
	return h, changed
}
