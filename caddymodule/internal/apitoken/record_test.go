package apitoken_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/apitoken"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func TestOnlyTheHashIsStored(t *testing.T) {
	s := newStore(t)
	n := newNode(t, s)
	secret := n.make(apitoken.Spec{Name: "ci", Scopes: oauth.Scopes{"read"}})
	r, err := s.Get(t.Context(), prefix+"apitoken/ci")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(r.Value, &fields); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Value), secret[4:]) || fields["v"] != 1.0 || fields["hash"] == nil || fields["scopes"] == nil {
		t.Errorf("the record is %s", r.Value)
	}
	if err := apitoken.CheckRecord("ci", r.Value); err != nil {
		t.Error(err)
	}
}

func TestARecordThatCannotBeReadLetsNobodyIn(t *testing.T) {
	for name, fields := range map[string]string{
		"newer": `{"v":2}`, "no id": `{"id":""}`, "another kind of id": `{"id":"grant"}`, "a short hash": `{"hash":"AAAA"}`, "no date": `{"created":"0001-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			first := newNode(t, s)
			secret, kept := first.make(apitoken.Spec{Name: "ci"}), first.make(apitoken.Spec{Name: "kept"})
			err := s.Update(t.Context(), prefix+"apitoken/ci", func(r store.Record) (store.Record, error) {
				var object map[string]any
				if err := errors.Join(json.Unmarshal(r.Value, &object), json.Unmarshal([]byte(fields), &object)); err != nil {
					return r, err
				}
				var err error
				r.Value, err = json.Marshal(object)
				return r, err
			})
			if err != nil {
				t.Fatal(err)
			}
			n := newNode(t, s)
			if n.finds(secret) || !n.finds(kept) {
				t.Errorf("it is found: %v, another one: %v", n.finds(secret), n.finds(kept))
			}
			r, err := s.Get(t.Context(), prefix+"apitoken/ci")
			if err != nil || apitoken.CheckRecord("ci", r.Value) == nil {
				t.Errorf("a check of the store finds nothing (%v)", err)
			}
		})
	}
}

func FuzzCheckRecord(f *testing.F) {
	f.Add("ci", []byte(`{"v":1,"id":"apitoken:A","hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","created":"2026-01-02T03:04:05Z"}`))
	f.Add("a/b", []byte(`null`))
	f.Fuzz(func(_ *testing.T, name string, value []byte) { _ = apitoken.CheckRecord(name, value) })
}
