package authserver

import (
	"mime"
	"net/http"
	"net/url"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/respond"
)

// maxForm bounds the body of a form in bytes. A sealed transaction has to fit.
const maxForm = 64 << 10

// params are the parameters of a request. A parameter that stands there twice is
// an error when it is asked for, an empty one counts as absent (OAuth 2.1 section
// 3.1), and unknown ones are ignored.
type params struct {
	values   url.Values
	repeated string // the first repeated parameter that was asked for
}

// get returns a parameter, or "".
func (p *params) get(name string) string {
	values := p.values[name]
	if len(values) > 1 && p.repeated == "" {
		p.repeated = name
	}
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// err reports a repeated parameter.
func (p *params) err() error {
	if p.repeated == "" {
		return nil
	}
	return oauth.InvalidRequest("the parameter " + p.repeated + " stands in the request more than once")
}

// queryParams reads the query of a request.
func queryParams(r *http.Request) (*params, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, oauth.InvalidRequest("the query string is malformed")
	}
	return &params{values: values}, nil
}

// formParams reads the form in the body of a request. The query is never looked
// at: credentials do not belong there.
func formParams(w http.ResponseWriter, r *http.Request) (*params, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		respond.CloseUnread(w, r)
		return nil, oauth.InvalidRequest("the Content-Type must be application/x-www-form-urlencoded")
	}
	body, err := respond.ReadBody(w, r, maxForm)
	if err != nil {
		return nil, oauth.InvalidRequest("the form in the request body is too long or did not arrive whole")
	}
	if r.PostForm, err = url.ParseQuery(string(body)); err != nil {
		return nil, oauth.InvalidRequest("the form in the request body is malformed")
	}
	return &params{values: r.PostForm}, nil
}
