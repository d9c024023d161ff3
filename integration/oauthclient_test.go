package integration

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// redirectURI is where the clients of these tests want answers. Nothing listens there: the visitor stops before.
const redirectURI = "http://127.0.0.1:33333/callback"

// answer is a response whose body has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

// field returns a field of a JSON body as text.
func (a *answer) field(t testing.TB, name string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		t.Fatalf("the answer %d is no JSON object: %v\n%s", a.status, err, tail(a.body, 1000))
	}
	value, _ := fields[name].(string)
	return value
}

// send sends a request with the headers, given as pairs.
func send(t testing.TB, client *http.Client, method, address, body string, headers ...string) *answer {
	t.Helper()
	a, err := trySend(t.Context(), client, method, address, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trySend is send for goroutines other than the one of the test, which cannot end it.
func trySend(ctx context.Context, client *http.Client, method, address, body string, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s %s: %w", method, address, err)
	}
	return &answer{resp.StatusCode, resp.Header, string(data)}, nil
}

// formType is the type of the requests that have a form for a body.
const formType = "application/x-www-form-urlencoded"

// postForm posts to an endpoint of the gateway.
func (g *gateway) postForm(t testing.TB, path string, fields url.Values) *answer {
	t.Helper()
	a := send(t, g.client, http.MethodPost, g.origin+path, fields.Encode(), "Content-Type", formType)
	if path == "/token" && a.status == http.StatusOK {
		g.keepSecret(a.field(t, "access_token"), a.field(t, "refresh_token"))
	}
	return a
}

// register registers a client and returns its id.
func (g *gateway) register(t testing.TB, metadata map[string]any) string {
	t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		t.Fatal(err)
	}
	a := send(t, g.client, http.MethodPost, g.origin+"/register", string(body), "Content-Type", "application/json")
	if a.status != http.StatusCreated {
		t.Fatalf("registering answers %d %s", a.status, a.body)
	}
	return a.field(t, "client_id")
}

// grant is what a client holds after a person agreed.
type grant struct {
	g               *gateway
	clientID        string
	access, refresh string
	visitor         *visitor
}

// newGrant registers a client and lets a new visitor sign in and agree. extra are parameters of the authorization
// request besides the usual ones.
func (g *gateway) newGrant(t testing.TB, extra url.Values) *grant {
	t.Helper()
	return g.newGrantFor(t, g.newVisitor(t), extra)
}

func (g *gateway) newGrantFor(t testing.TB, v *visitor, extra url.Values) *grant {
	t.Helper()
	out := &grant{g: g, visitor: v}
	out.clientID = g.register(t, map[string]any{
		"client_name": "Test client", "redirect_uris": []string{redirectURI}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"},
	})
	verifier := rand.Text() + rand.Text()
	request := authorizeRequest(out.clientID, verifier)
	g.keepSecret(request.Get("state"))
	maps.Copy(request, extra)
	callback := v.authorize(g.origin + "/authorize?" + request.Encode())
	if callback.Get("state") != request.Get("state") || callback.Get("iss") != g.origin {
		t.Fatalf("the authorization response has state %q and iss %q", callback.Get("state"), callback.Get("iss"))
	}
	out.take(t, g.postForm(t, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "client_id": {out.clientID},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}))
	return out
}

// authorizeRequest are the parameters of an authorization request.
func authorizeRequest(clientID, verifier string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	return url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
}

func (gr *grant) take(t testing.TB, a *answer) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("the token endpoint answers %d %s", a.status, a.body)
	}
	gr.access, gr.refresh = a.field(t, "access_token"), a.field(t, "refresh_token")
	if gr.access == "" || gr.refresh == "" {
		t.Fatalf("the token endpoint gives no tokens: %s", a.body)
	}
}

// renew uses the refresh token as public clients do, and takes the new tokens.
func (gr *grant) renew(t testing.TB) {
	t.Helper()
	gr.take(t, gr.g.postForm(t, "/token", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {gr.refresh}, "client_id": {gr.clientID},
	}))
}

// revoke ends the grant.
func (gr *grant) revoke(t testing.TB) {
	t.Helper()
	if a := gr.g.postForm(t, "/revoke", url.Values{"token": {gr.refresh}, "client_id": {gr.clientID}}); a.status != http.StatusOK {
		t.Fatalf("the revocation endpoint answers %d %s", a.status, a.body)
	}
}

// toolsCall is a request that works without a session, as scripts send it.
const toolsCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_bugs_by_keyword",` +
	`"arguments":{"keyword":"memory leak","severity":"3","page_index":1}}}`

// call posts a tools/call with a token, or without one when it is "".
func (g *gateway) call(t testing.TB, client *http.Client, path, token string) *answer {
	t.Helper()
	headers := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	if token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	return send(t, client, http.MethodPost, g.origin+path, toolsCall, headers...)
}

// wantStatus fails the test when an answer has another status.
func wantStatus(t testing.TB, what string, a *answer, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: got %d, want %d; body: %s", what, a.status, status, tail(a.body, 500))
	}
}

// wantTools fails the test when an answer is not the result of toolsCall.
func wantTools(t testing.TB, what string, a *answer) {
	t.Helper()
	wantStatus(t, what, a, http.StatusOK)
	if !strings.Contains(a.body, `"total_results"`) || strings.Contains(a.body, `"isError":true`) {
		t.Errorf("%s: this is no tool result: %s", what, tail(a.body, 500))
	}
}
