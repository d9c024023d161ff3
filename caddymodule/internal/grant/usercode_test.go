package grant

import (
	"errors"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

func TestAUserCodeLeadsToOneDevice(t *testing.T) {
	s := NewService(memstore.New(0), "test/", func(string) []byte { return make([]byte, 32) }, Config{}, nil)
	const taken, free = oauth.UserCode("BBBBBBBB"), oauth.UserCode("CCCCCCCC")
	next := []oauth.UserCode{taken, taken, taken, free}
	s.newUserCode = func() oauth.UserCode {
		code := next[0]
		next = next[1:]
		return code
	}
	request := DeviceRequest{ClientID: "client1", Resource: "https://mcp.example.com/mcp", Scopes: oauth.Scopes{"mcp"}}
	_, first, err := s.StartDevice(t.Context(), request)
	if err != nil || first != taken {
		t.Fatal(first, err)
	}
	before, err := s.FindDevice(t.Context(), taken)
	if err != nil {
		t.Fatal(err)
	}
	if _, second, err := s.StartDevice(t.Context(), request); err != nil || second != free {
		t.Errorf("the next device has the code %s, %v; want %s", second, err, free)
	}
	if after, err := s.FindDevice(t.Context(), taken); err != nil || after.ID() != before.ID() {
		t.Errorf("the first device has lost its code: %v", err)
	}

	next = []oauth.UserCode{taken, free, taken}
	_, _, err = s.StartDevice(t.Context(), request)
	if _, refusal := errors.AsType[*oauth.Error](err); err == nil || refusal {
		t.Errorf("without a code: %v, want a fault that can be tried again", err)
	}
}
