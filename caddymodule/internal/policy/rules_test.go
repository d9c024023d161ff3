package policy

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// ladder are three scopes of which each implies the one before, and one beside
// them.
func ladder(t *testing.T) *Scopes {
	t.Helper()
	s, err := NewScopes([]Scope{
		{Name: "read", Tools: []string{"search_*", "get_*"}},
		{Name: "write", Tools: []string{"create_case", "update_case"}, Implies: []string{"read"}, Listed: true},
		{Name: "admin", Tools: []string{"*_settings", "update_case"}, Methods: []string{"logging/*"}, Implies: []string{"write"}, Allow: &Allow{Groups: []string{"admins"}}},
		{Name: "files", Methods: []string{"resources/*", "prompts/get"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	someone = Caller{Subject: "alice", Client: "app"}
	anAdmin = Caller{Subject: "bob", Client: "app", Groups: []string{"admins"}}
)

func TestDecide(t *testing.T) {
	call := func(tools ...string) (out []Message) {
		for _, tool := range tools {
			out = append(out, Message{Method: MethodCall, Name: tool})
		}
		return out
	}
	methods := func(names ...string) (out []Message) {
		for _, name := range names {
			out = append(out, Message{Method: name})
		}
		return out
	}
	for _, tt := range []struct {
		name     string
		granted  string
		caller   Caller
		limit    oauth.Scopes
		messages []Message
		want     Outcome
		needed   string
	}{
		{"a tool of the scope", "read", someone, nil, call("search_bugs"), Allowed, ""},
		{"a tool of an implied scope", "write", someone, nil, call("get_bug"), Allowed, ""},
		{"a tool of a scope two steps down", "admin", anAdmin, nil, call("get_bug"), Allowed, ""},
		{"a tool of another scope", "read", someone, nil, call("create_case"), Lacking, "write"},
		{"names are compared byte by byte", "write", someone, nil, call("Create_case"), Denied, ""},
		{"and as a whole", "write", someone, nil, call("create_case2"), Denied, ""},
		{"a tool in no scope", "read write admin files", anAdmin, nil, call("drop_database"), Denied, ""},
		{"without any scope", "", someone, nil, call("get_bug"), Lacking, "read"},
		{"with unknown scopes", "x y", someone, nil, call("get_bug"), Lacking, "read"},
		{"the first scope of several is asked for", "read", anAdmin, nil, call("update_case"), Lacking, "write"},
		{"the one that can be had", "read", anAdmin, oauth.Scopes{"read", "admin"}, call("update_case"), Lacking, "admin"},
		{"a scope that the caller may not have", "read", someone, nil, call("change_settings"), Denied, ""},
		{"a granted one that the caller may not have any more", "admin", someone, nil, call("change_settings"), Denied, ""},
		{"nor what it implies", "admin", someone, nil, call("get_bug"), Lacking, "read"},
		{"a scope that the client may not have", "read", someone, oauth.Scopes{"read"}, call("create_case"), Denied, ""},
		{"a scope that the caller may have", "read", anAdmin, nil, call("change_settings"), Lacking, "admin"},
		{"a method of the scope", "files", someone, nil, methods("resources/read", "resources/list", "prompts/get"), Allowed, ""},
		{"a method of another scope", "read", someone, nil, methods("resources/read"), Lacking, "files"},
		{"methods without a rule", "read", someone, nil, methods("initialize", "tools/list", "ping", "prompts/list", "notifications/initialized"), Allowed, ""},
		{"methods without a rule and without a scope", "", someone, nil, methods("ping"), Allowed, ""},
		{"an answer", "read", someone, nil, []Message{{}}, Allowed, ""},
		{"all of a batch are allowed", "write", someone, nil, call("get_bug", "create_case"), Allowed, ""},
		{"one of a batch is not", "read", someone, nil, call("get_bug", "create_case", "get_bug"), Lacking, "write"},
		{"everything that a batch needs", "", someone, nil, append(call("get_bug", "create_case"), methods("resources/read")...), Lacking, "read write files"},
		{"and no more", "", someone, nil, call("create_case", "get_bug"), Lacking, "write"},
		{"one of a batch can never be", "read", someone, nil, call("create_case", "drop_database"), Denied, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := ladder(t)
			r := s.Rules(oauth.Scopes{"read", "write", "admin", "files"})
			d := r.Decide(tt.messages, s.Held(oauth.ParseScope(tt.granted), tt.caller), s.Gainable(tt.caller, tt.limit))
			if d.Outcome != tt.want || d.Needed.String() != tt.needed {
				t.Errorf("%d with %q, want %d with %q", d.Outcome, d.Needed, tt.want, tt.needed)
			}
			if len(d.Calls) != len(tt.messages) {
				t.Errorf("%d calls of %d messages", len(d.Calls), len(tt.messages))
			}
		})
	}
}

func TestADecisionTellsAboutEachCall(t *testing.T) {
	s := ladder(t)
	r := s.Rules(oauth.Scopes{"read", "write"})
	d := r.Decide([]Message{{Method: MethodCall, Name: "get_bug"}, {}, {Method: MethodCall, Name: "create_case"}, {Method: "ping", Name: "x"}, {Method: MethodCall, Name: "x"}},
		s.Held(oauth.Scopes{"read"}, someone), s.Gainable(someone, nil))
	want := []Call{{MethodCall, "get_bug", Allowed}, {}, {MethodCall, "create_case", Lacking}, {"ping", "", Allowed}, {MethodCall, "x", Denied}}
	if !slices.Equal(d.Calls, want) {
		t.Errorf("%+v", d.Calls)
	}
}

// A method that has a rule needs it in addition to the rule of the tool, so that
// naming tools/* for one scope does not give away all tools.
func TestACallNeedsToolAndMethod(t *testing.T) {
	s, err := NewScopes([]Scope{{Name: "read", Tools: []string{"get_*"}, Methods: []string{"tools/*"}}, {Name: "write", Tools: []string{"create_*"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Rules(oauth.Scopes{"read", "write"})
	for granted, want := range map[string]struct {
		create, get Outcome
		needed      string
	}{"read": {Lacking, Allowed, "write"}, "write": {Lacking, Lacking, "read"}, "read write": {Allowed, Allowed, ""}, "": {Lacking, Lacking, "read write"}} {
		held := s.Held(oauth.ParseScope(granted), someone)
		create := r.Decide([]Message{{Method: MethodCall, Name: "create_x"}}, held, s.Gainable(someone, nil))
		get := r.Decide([]Message{{Method: MethodCall, Name: "get_x"}}, held, s.Gainable(someone, nil))
		if create.Outcome != want.create || get.Outcome != want.get || create.Needed.String() != want.needed {
			t.Errorf("with %q: %d and %d, needed %q", granted, create.Outcome, get.Outcome, create.Needed)
		}
		if r.Shows("create_x", held, func() Set { return 0 }) != (want.create == Allowed) {
			t.Errorf("with %q create_x is shown or not", granted)
		}
	}
}

func TestRulesAreThoseOfTheResource(t *testing.T) {
	s := ladder(t)
	if s.Rules(nil) != nil || s.Rules(oauth.Scopes{"x"}) != nil {
		t.Error("there are rules without scopes")
	}
	r := s.Rules(oauth.Scopes{"read"})
	if d := r.Decide([]Message{{Method: MethodCall, Name: "create_case"}}, s.Held(oauth.Scopes{"write"}, someone), ^Set(0)); d.Outcome != Denied {
		t.Errorf("a tool of a scope of other resources: %d", d.Outcome)
	}
	if d := r.Decide([]Message{{Method: MethodCall, Name: "get_bug"}}, s.Held(oauth.Scopes{"write"}, someone), ^Set(0)); d.Outcome != Allowed {
		t.Errorf("a scope of other resources that implies one of this: %d", d.Outcome)
	}
}

func TestShows(t *testing.T) {
	s := ladder(t)
	r := s.Rules(oauth.Scopes{"read", "write", "admin"})
	for _, tt := range []struct {
		granted string
		caller  Caller
		want    string
	}{
		{"read", someone, "get_bug create_case update_case"}, // write is listed
		{"write", someone, "get_bug create_case update_case"},
		{"read", anAdmin, "get_bug create_case update_case"}, // admin is not
		{"admin", anAdmin, "get_bug create_case update_case x_settings"},
		{"admin", someone, "create_case update_case"},
	} {
		var shown []string
		for _, tool := range []string{"get_bug", "create_case", "update_case", "x_settings", "x"} {
			if r.Shows(tool, s.Held(oauth.ParseScope(tt.granted), tt.caller), func() Set { return s.Gainable(tt.caller, nil) }) {
				shown = append(shown, tool)
			}
		}
		if got := strings.Join(shown, " "); got != tt.want {
			t.Errorf("%q of %s shows %q, want %q", tt.granted, tt.caller.Subject, got, tt.want)
		}
	}
	if r.Shows("create_case", s.Held(oauth.Scopes{"read"}, someone), func() Set { return s.Gainable(someone, oauth.Scopes{"read"}) }) {
		t.Error("a listed scope that the client cannot have shows its tools")
	}
}

func TestHierarchies(t *testing.T) {
	s := ladder(t)
	for name, want := range map[string]string{"read": "", "write": "read", "admin": "read write", "files": "", "x": ""} {
		if got := s.Implied(name).String(); got != want {
			t.Errorf("%s implies %q, want %q", name, got, want)
		}
	}
	for want, scopes := range map[string][]Scope{
		"scopes imply each other: a → b → c → a":                  {{Name: "a", Implies: []string{"b"}}, {Name: "b", Implies: []string{"c"}}, {Name: "c", Implies: []string{"a"}}},
		"scopes imply each other: a → a":                          {{Name: "a", Implies: []string{"a"}}},
		"scopes imply each other: b → b":                          {{Name: "a", Implies: []string{"b"}}, {Name: "b", Implies: []string{"b"}}},
		"the scope 'a' implies 'b', which no line defines":        {{Name: "a", Implies: []string{"b"}}},
		"there are 65 scopes, and no token can have more than 64": make([]Scope, 65),
	} {
		if _, err := NewScopes(scopes); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	diamond, err := NewScopes([]Scope{{Name: "a", Implies: []string{"b", "c"}}, {Name: "b", Implies: []string{"d"}}, {Name: "c", Implies: []string{"d"}}, {Name: "d"}})
	if err != nil || diamond.Implied("a").String() != "b c d" {
		t.Errorf("a diamond: %v, %v", diamond, err)
	}
}

func TestCheckHeaders(t *testing.T) {
	call := []Message{{Method: MethodCall, Name: "create_case", ID: []byte("1")}}
	read := []Message{{Method: "resources/read", URI: "file:///ä"}}
	for _, tt := range []struct {
		name     string
		messages []Message
		header   http.Header
		ok       bool
	}{
		{"none", call, http.Header{}, true},
		{"both", call, http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"create_case"}}, true},
		{"one", call, http.Header{"Mcp-Method": {"tools/call"}}, true},
		{"the other", call, http.Header{"Mcp-Name": {"create_case"}}, true},
		{"another method", call, http.Header{"Mcp-Method": {"tools/list"}}, false},
		{"another tool", call, http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"get_bug"}}, false},
		{"another case", call, http.Header{"Mcp-Method": {"Tools/call"}}, false},
		{"an empty one", call, http.Header{"Mcp-Method": {""}}, false},
		{"two", call, http.Header{"Mcp-Method": {"tools/call", "tools/call"}}, false},
		{"two names", call, http.Header{"Mcp-Name": {"create_case", "get_bug"}}, false},
		{"two names for what has none", []Message{{Method: "ping"}}, http.Header{"Mcp-Name": {"a", "b"}}, false},
		{"Base64", call, http.Header{"Mcp-Name": {"=?base64?Y3JlYXRlX2Nhc2U=?="}}, true},
		{"Base64 of another tool", call, http.Header{"Mcp-Name": {"=?base64?Z2V0X2J1Zw==?="}}, false},
		{"broken Base64", call, http.Header{"Mcp-Name": {"=?base64?Y3JlYXRlX2Nhc2U?="}}, false},
		{"a URI", read, http.Header{"Mcp-Name": {"=?base64?ZmlsZTovLy/DpA==?="}}, true},
		{"another URI", read, http.Header{"Mcp-Name": {"file:///b"}}, false},
		{"a name where none is defined", []Message{{Method: "tasks/get"}}, http.Header{"Mcp-Method": {"tasks/get"}, "Mcp-Name": {"x"}}, true},
		{"a batch of one method", append(call, call...), http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"create_case"}}, true},
		{"a batch of several", append(call, Message{Method: "ping"}), http.Header{"Mcp-Method": {"tools/call"}}, false},
		{"an answer", []Message{{}}, http.Header{"Mcp-Method": {"tools/call"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fault := CheckHeaders(tt.header, tt.messages)
			if (fault == nil) != tt.ok {
				t.Fatalf("got %v", fault)
			}
			if fault != nil && fault.Code != CodeHeaderMismatch {
				t.Errorf("the code is %d", fault.Code)
			}
		})
	}
}

func TestNameOf(t *testing.T) {
	rules := ladder(t).Rules(oauth.Scopes{"read", "write"})
	for tool, want := range map[string]string{
		"create_case": "create_case", "get_bug": "get_*", "get_" + strings.Repeat("x", 1000): "get_*", "drop_tables": "", "mail_settings": "", "": "",
	} {
		if got := rules.NameOf(tool); got != want {
			t.Errorf("%.20q is named %q, want %q", tool, got, want)
		}
	}
}
