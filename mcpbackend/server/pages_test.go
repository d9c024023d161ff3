package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/cisco"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/mcpbackend/server"
)

func TestHealth(t *testing.T) {
	r := send(t, "GET", start(t, server.Options{})+"/health", "")
	got := decode[map[string]string](t, r.body)
	if _, err := time.Parse(time.RFC3339, got["timestamp"]); r.status != 200 || got["status"] != "healthy" || err != nil || len(got) != 2 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestIndexNamesTheDataSource(t *testing.T) {
	credentials := cisco.Config{ClientID: "a", ClientSecret: "do-not-show"}
	for _, tc := range []struct {
		options server.Options
		data    string
		tools   int
	}{
		{server.Options{}, "sample", 10},
		{server.Options{Cisco: credentials}, "cisco", 8},
	} {
		r := send(t, "GET", start(t, tc.options)+"/", "")
		got := decode[struct {
			Data      string
			Tools     []string
			Endpoints map[string]string
		}](t, r.body)
		if r.status != 200 || got.Data != tc.data || len(got.Tools) != tc.tools || got.Endpoints["mcp"] != "/mcp" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if strings.Contains(r.body, "do-not-show") {
			t.Error("the page shows the secret")
		}
	}
}

func TestWhoamiShowsWhatAGatewayPassedOn(t *testing.T) {
	url := start(t, server.Options{})
	type seen struct {
		Headers       map[string][]string
		Host          string
		Authorization bool
		Cookie        bool
	}
	r := send(t, "GET", url+"/whoami", "", "X-Mcp-User", "alice", "X-Mcp-Scopes", "a b", "Authorization", "Bearer hidden", "Cookie", "s=hidden", "X-Other", "hidden", "Host", "name.example")
	if strings.Contains(r.body, "hidden") {
		t.Errorf("the page repeats what it should not: %s", r.body)
	}
	want := seen{map[string][]string{"X-Mcp-User": {"alice"}, "X-Mcp-Scopes": {"a b"}}, "name.example", true, true}
	if diff := cmp.Diff(want, decode[seen](t, r.body)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r = send(t, "POST", url+"/whoami", "")
	if diff := cmp.Diff(seen{Headers: map[string][]string{}, Host: strings.TrimPrefix(url, "http://")}, decode[seen](t, r.body)); diff != "" {
		t.Errorf("without headers (-want +got)\n%s", diff)
	}
}
