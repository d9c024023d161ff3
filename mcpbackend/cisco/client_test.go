package cisco_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/bugs"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
)

const (
	testID     = "test-id"
	testSecret = "test-secret-0123456789"
)

// A standIn plays Cisco's token endpoint and Bug API, and keeps what it was asked.
type standIn struct {
	*httptest.Server
	token http.HandlerFunc // answers POST /token; nil issues token-1, token-2, …
	api   http.HandlerFunc // answers everything under /bug/v2.0

	mu     sync.Mutex
	tokens int      // token requests so far
	asked  []string // request URIs of the API, below its base
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.tokens++
		n := s.tokens
		s.mu.Unlock()
		if s.token != nil {
			s.token(w, r)
			return
		}
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":3599}`, n)
	})
	mux.HandleFunc("/bug/v2.0/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimPrefix(r.RequestURI, "/bug/v2.0"))
		s.mu.Unlock()
		s.api(w, r)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *standIn) client(t *testing.T) *cisco.Client {
	t.Helper()
	c, err := cisco.New(cisco.Config{ClientID: testID, ClientSecret: testSecret, APIBase: s.URL + "/bug/v2.0", TokenURL: s.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const onePage = `{
	"pagination_response_record": {"page_index": 2, "last_index": "7", "page_records": 1, "total_records": 61, "self_link": "x", "title": "y"},
	"bugs": [{"id": "1", "bug_id": "CSCdr72939", "headline": "Router reloads", "severity": 2, "status": "F", "product": "Router",
		"known_affected_releases": "12.0 12.1", "known_fixed_releases": ["12.2", "12.3"], "support_case_count": "4",
		"last_modified_date": "2015-08-10", "duplicate_of": null, "behavior_changed": "N"}]}`

func TestSearchAsksAsTheAPIDocuments(t *testing.T) {
	all := bugs.Filter{Page: 2, Status: "O", Severity: "3", Modified: "5", SortBy: "severity"}
	for _, tc := range []struct {
		name  string
		query bugs.Query
		want  string
	}{
		{"ids go unescaped into a list, without a filter", bugs.Query{Kind: bugs.ByID, IDs: []string{"CSCaa00001", "CSCaa00002"}, Filter: all}, "/bugs/bug_ids/CSCaa00001,CSCaa00002"},
		{"a keyword is escaped", bugs.Query{Kind: bugs.ByKeyword, Keyword: "a/b c?d#e%"}, "/bugs/keyword/a%2Fb%20c%3Fd%23e%25?page_index=1"},
		{"a keyword cannot climb", bugs.Query{Kind: bugs.ByKeyword, Keyword: "../../x"}, "/bugs/keyword/..%2F..%2Fx?page_index=1"},
		{"all filters", bugs.Query{Kind: bugs.ByKeyword, Keyword: "x", Filter: all}, "/bugs/keyword/x?modified_date=5&page_index=2&severity=3&sort_by=severity&status=O"},
		{"product id", bugs.Query{Kind: bugs.ByProduct, BasePID: "ISR4431/K9"}, "/bugs/products/product_id/ISR4431%2FK9?page_index=1"},
		{"product id and releases", bugs.Query{Kind: bugs.ByProductRelease, BasePID: "P", Releases: "1.1,1.2"}, "/bugs/products/product_id/P/software_releases/1.1,1.2?page_index=1"},
		{"series affected", bugs.Query{Kind: bugs.BySeriesAffected, Series: "S", Releases: "1"}, "/bugs/product_series/S/affected_releases/1?page_index=1"},
		{"series fixed", bugs.Query{Kind: bugs.BySeriesFixed, Series: "S", Releases: "1"}, "/bugs/product_series/S/fixed_in_releases/1?page_index=1"},
		{"name affected", bugs.Query{Kind: bugs.ByNameAffected, Name: "N", Releases: "1"}, "/bugs/product_name/N/affected_releases/1?page_index=1"},
		{"name fixed", bugs.Query{Kind: bugs.ByNameFixed, Name: "N", Releases: "1"}, "/bugs/product_name/N/fixed_in_releases/1?page_index=1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStandIn(t)
			var auth, form string
			s.token = func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				form = r.PostForm.Encode()
				fmt.Fprint(w, `{"access_token":"the-token","expires_in":3599}`)
			}
			s.api = func(w http.ResponseWriter, r *http.Request) {
				auth = r.Header.Get("Authorization")
				fmt.Fprint(w, onePage)
			}
			if _, err := s.client(t).Bugs(t.Context(), tc.query); err != nil {
				t.Fatal(err)
			}
			if len(s.asked) != 1 || s.asked[0] != tc.want {
				t.Errorf("asked %q, want %q", s.asked, tc.want)
			}
			if auth != "Bearer the-token" {
				t.Errorf("Authorization %q", auth)
			}
			if want := "client_id=test-id&client_secret=test-secret-0123456789&grant_type=client_credentials"; form != want {
				t.Errorf("token form %q, want %q", form, want)
			}
		})
	}
}

func TestPageIsRead(t *testing.T) {
	s := newStandIn(t)
	s.api = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, onePage) }
	got, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x", Filter: bugs.Filter{Page: 2}})
	if err != nil {
		t.Fatal(err)
	}
	want := bugs.Page{Index: 2, Last: 7, Total: 61, Bugs: []bugs.Bug{{
		ID: "1", BugID: "CSCdr72939", Headline: "Router reloads", Severity: "2", Status: "F", Product: "Router",
		KnownAffectedReleases: "12.0 12.1", KnownFixedReleases: "12.2 12.3", SupportCaseCount: "4",
		LastModifiedDate: "2015-08-10", BehaviorChanged: "N",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

func TestPageWithoutPaginationIsTheOnlyOne(t *testing.T) {
	s := newStandIn(t)
	s.api = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"bugs":[{"bug_id":"CSCaa00001"}]}`) }
	got, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByID, IDs: []string{"CSCaa00001"}})
	if err != nil || got.Index != 1 || got.Last != 1 || got.Total != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// apiError is the form in which the API explains itself.
func apiError(code, description, action string) string {
	b, err := json.Marshal([]map[string]string{{"ErrorCode": code, "ErrorDescription": description, "SuggestedAction": action}})
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"ErrorResponse":{"APIError":%s}}`, b)
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, tc := range []struct {
		name, body, want string
		status           int
	}{
		{"400 repeats the description and the action", apiError("INVALID_INPUT", "Keyword is too long", "Use at most 50 characters"),
			"Cisco's API refused the search (status 400): Keyword is too long. Use at most 50 characters.", 400},
		{"400 without a description names the code", apiError("INVALID_INPUT", "", ""),
			"Cisco's API refused the search (status 400): INVALID_INPUT.", 400},
		{"403 in HTML shows its text", "<html><h1>Developer Inactive</h1></html>",
			"Cisco's API refused access: Developer Inactive. Check that the application of CISCO_CLIENT_ID has the Bug API.", 403},
		{"403 in JSON shows the API's advice", apiError("FORBIDDEN", "Not entitled.", "Ask for access."),
			"Cisco's API refused access: Not entitled. Ask for access.", 403},
		{"500 hides the body", "panic at line 7", "Cisco's API has a problem (status 500). Try again later.", 500},
		{"a redirect is not followed", "", "Cisco's API refused the search (status 302).", 302},
		{"429 without Retry-After is the user's to wait", "", "Cisco's API is receiving too many requests. Wait a minute, then try again.", 429},
		{"addresses are not repeated", apiError("", "See https://apix.cisco.com/bug/v2.0/bugs/keyword/x please", ""),
			"Cisco's API refused the search (status 400): See [address] please.", 400},
		{"the token is not repeated", apiError("", "Bad token token-1", ""),
			"Cisco's API refused the search (status 400): Bad token [removed].", 400},
		{"control characters become spaces", apiError("", "a\x1b[31m\nb", ""),
			"Cisco's API refused the search (status 400): a [31m b.", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStandIn(t)
			s.api = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", s.URL+"/elsewhere")
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}
			_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
			e, ok := errors.AsType[*cisco.Error](err)
			if !ok || e.Error() != tc.want || e.Status != tc.status {
				t.Errorf("error %v (%+v)\nwant  %s", err, e, tc.want)
			}
			if len(s.asked) != 1 {
				t.Errorf("asked %d times, want once", len(s.asked))
			}
		})
	}
}

func TestLongRefusalIsCut(t *testing.T) {
	s := newStandIn(t)
	s.api = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, apiError("", strings.Repeat("ä", 5000), ""))
	}
	_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
	if err == nil || len([]rune(err.Error())) > 400 {
		t.Errorf("error %v", err)
	}
}

func TestTokenEndpointRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, body, want string
		status           int
	}{
		{"wrong credentials", `{"error":"invalid_client","error_description":"x"}`,
			"Cisco's sign-in service refused the credentials of this server: invalid_client. Check CISCO_CLIENT_ID and CISCO_CLIENT_SECRET.", 401},
		{"an echo of the secret is removed", `{"error":"bad ` + testSecret + `"}`,
			"Cisco's sign-in service refused the credentials of this server: bad [removed]. Check CISCO_CLIENT_ID and CISCO_CLIENT_SECRET.", 400},
		{"another form of body", `<h1>no</h1>`,
			"Cisco's sign-in service refused the credentials of this server. Check CISCO_CLIENT_ID and CISCO_CLIENT_SECRET.", 403},
		{"an outage is not blamed on the credentials", `{"error":"invalid_client"}`,
			"Cisco's sign-in service has a problem (status 503). Try again later.", 503},
		{"an answer without a token", `{"expires_in":3599}`,
			"Cisco's sign-in service sent an answer without a token. Try again later.", 200},
		{"an answer that is not JSON", `hello`,
			"Cisco's sign-in service sent an answer without a token. Try again later.", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStandIn(t)
			s.token = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}
			s.api = func(http.ResponseWriter, *http.Request) { t.Error("the API was asked without a token") }
			_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
			if err == nil || err.Error() != tc.want {
				t.Errorf("error %v\nwant  %s", err, tc.want)
			}
		})
	}
}

func TestUnreadableAnswers(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"not JSON", "<html>", "could not be read"},
		{"an object where text belongs", `{"bugs":[{"bug_id":{}}]}`, "could not be read"},
		{"over the size bound", `{"bugs":[{"headline":"` + strings.Repeat("x", 5<<20) + `"}]}`, "too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStandIn(t)
			s.api = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tc.body) }
			_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestTokenIsFetchedOnceForManyCallers(t *testing.T) {
	s := newStandIn(t)
	s.api = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, onePage) }
	c := s.client(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.tokens != 1 {
		t.Errorf("%d token requests, want 1", s.tokens)
	}
}

func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	for _, tc := range []struct {
		name       string
		accepted   string // the only token that the API takes
		wantTokens int
		wantErr    string
	}{
		{"the second token is taken", "Bearer token-2", 2, ""},
		{"a second refusal is final", "none", 2, "Cisco's API does not accept a token it has just issued: gone. Check that the application of CISCO_CLIENT_ID has the Bug API."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStandIn(t)
			s.api = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != tc.accepted {
					w.WriteHeader(http.StatusUnauthorized)
					fmt.Fprint(w, apiError("", "gone", ""))
					return
				}
				fmt.Fprint(w, onePage)
			}
			_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
			if (err == nil) != (tc.wantErr == "") || err != nil && err.Error() != tc.wantErr {
				t.Errorf("error %v, want %q", err, tc.wantErr)
			}
			if s.tokens != tc.wantTokens || len(s.asked) != 2 {
				t.Errorf("%d tokens, %d calls", s.tokens, len(s.asked))
			}
		})
	}
}

func TestUnreachableAPIIsNotNamed(t *testing.T) {
	s := newStandIn(t)
	c := s.client(t)
	s.Close()
	_, err := c.Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "hidden"})
	if want := "Cisco's sign-in service could not be reached. Check the network of this server, then try again."; err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if cause := errors.Unwrap(err); cause == nil || strings.Contains(cause.Error(), "/token") {
		t.Errorf("cause %v", cause)
	}
}

func TestDotsAreNotAPath(t *testing.T) {
	s := newStandIn(t)
	for _, keyword := range []string{"", ".", "..", "..."} {
		_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: keyword})
		if err == nil || !strings.Contains(err.Error(), "at least one letter or digit") {
			t.Errorf("keyword %q: error %v", keyword, err)
		}
	}
	if s.tokens != 0 {
		t.Error("a token was fetched for a search that cannot be asked")
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  cisco.Config
		err  string
	}{
		{"no credentials", cisco.Config{}, "set CISCO_CLIENT_ID and CISCO_CLIENT_SECRET"},
		{"an id without a secret", cisco.Config{ClientID: "a"}, "CISCO_CLIENT_SECRET is not: set both"},
		{"a secret without an id", cisco.Config{ClientSecret: "a"}, "CISCO_CLIENT_ID is not: set both"},
		{"plain http to another machine", cisco.Config{ClientID: "a", ClientSecret: "b", APIBase: "http://example.com"}, "CISCO_API_BASE must begin with https://"},
		{"an address without a host", cisco.Config{ClientID: "a", ClientSecret: "b", TokenURL: "https:///token"}, "CISCO_TOKEN_URL is not a plain address"},
		{"an address with a query", cisco.Config{ClientID: "a", ClientSecret: "b", TokenURL: "https://x/?a=b"}, "CISCO_TOKEN_URL is not a plain address"},
		{"an address with a password", cisco.Config{ClientID: "a", ClientSecret: "b", APIBase: "https://u:p@x"}, "CISCO_API_BASE is not a plain address"},
		{"the defaults", cisco.Config{ClientID: "a", ClientSecret: "b"}, ""},
		{"plain http to this machine", cisco.Config{ClientID: "a", ClientSecret: "b", APIBase: "http://[::1]:1/x"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := cisco.New(tc.cfg)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "u:p") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
}

func TestRefusalWithoutWordsIsStillExplained(t *testing.T) {
	for _, body := range []string{"", "{}", `{"ErrorResponse":{"APIError":[]}}`, "null"} {
		s := newStandIn(t)
		s.api = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, body)
		}
		_, err := s.client(t).Bugs(t.Context(), bugs.Query{Kind: bugs.ByKeyword, Keyword: "x"})
		if want := "Cisco's API refused the search (status 404)."; err == nil || err.Error() != want {
			t.Errorf("body %q: error %v, want %s", body, err, want)
		}
	}
}
