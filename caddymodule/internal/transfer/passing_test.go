package transfer_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/grant"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/limit"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

// sharedStore is a store of several nodes.
type sharedStore struct{ store.Store }

func (sharedStore) Shared() bool { return true }

// Counts of rate limits are known, and of little worth.
func TestCountsOfLimitsAreKnown(t *testing.T) {
	s := sharedStore{memstore.New(0)}
	defer s.Close()
	filled(t, s, nil)
	limit.Share(s, issuer, make([]byte, 32), zap.NewNop()).Limit("token", 5, time.Hour).Take(t.Context(), "alice")
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Limits != 1 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for key := range contents(t, s) {
		if !strings.HasPrefix(key, issuer+"limit/") {
			continue
		}
		changed(t, s, key, `{"leased":0}`)
		report, err := checker.Check(t.Context(), s)
		if want := "stored count is incomplete; it does no harm"; err != nil || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Problem, want) {
			t.Errorf("%+v, %v; want %q", report.Findings, err, want)
		}
	}
}

// Requests of devices move with the rest, so that a move costs no device its wait,
// and damage to them is found.
func TestRequestsOfDevicesAreKnown(t *testing.T) {
	s := memstore.New(0)
	defer s.Close()
	filled(t, s, nil)
	grants := grant.NewService(s, issuer, func(string) []byte { return make([]byte, 32) }, grant.Config{RefreshLifetime: time.Hour}, nil)
	_, _, err := grants.StartDevice(t.Context(), grant.DeviceRequest{
		ClientID: "mcp_app", Resource: "https://mcp.example/mcp", Scopes: oauth.Scopes{"mcp"},
	})
	must(t, err)
	report, err := checker.Check(t.Context(), s)
	if err != nil || len(report.Findings) != 0 || report.Devices != 1 || report.Unknown != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	copied := memstore.New(0)
	defer copied.Close()
	if got, err := importInto(t, copied, export(t, s), false); err != nil || got.Devices != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for key := range contents(t, s) {
		if !strings.HasPrefix(key, issuer+"device/") {
			continue
		}
		for _, c := range []struct{ fields, want string }{
			{`{"hash":"AAAA"}`, "stored request of a device is incomplete; it does no harm: the device asks for a new code"},
			{`{"v":2}`, "version 2; this program reads version 1; a newer version of this program has written it"},
		} {
			changed(t, s, key, c.fields)
			report, err := checker.Check(t.Context(), s)
			if err != nil || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Problem, c.want) {
				t.Errorf("%+v, %v; want %q", report.Findings, err, c.want)
			}
		}
	}
}
