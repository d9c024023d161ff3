package authserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/authserver"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// A whole life of a client, with refusals and faults, leaves nothing in the log
// that somebody could use.
func TestNothingSecretIsLogged(t *testing.T) {
	s := newSite(t, func(c *authserver.Config) { c.OpenServiceAccounts = true })
	b := s.browser()
	id := s.register()
	login := b.get("/authorize?" + authorization(id, "state", "secret-state").Encode())
	login.signIn("alice", "secret-wrong-password")
	login.signIn("secret-password-as-name", "x")
	consent := login.signIn("alice", password)
	secrets := []string{
		password, "secret-", verifier, webPass, "robot-secret", "initial-access-token",
		b.cookie("__Host-mcp_session"), b.cookie("__Host-mcp_browser"),
		login.form("/login").values.Get("token"), consent.form("/authorize").values.Get("token"),
	}
	code := consent.submit("decision", "allow").handedOff().Get("code")
	first := s.issued(redemption(id, code))
	second := s.issued(renewal(id, first.text("refresh_token")))
	service := s.program(request(http.MethodPost, "/register", `{"grant_types":["client_credentials"]}`))
	third := s.issued(url.Values{"grant_type": {"client_credentials"}}, service.text("client_id"), service.text("client_secret"))
	secrets = append(secrets, code, first.text("access_token"), first.text("refresh_token"), second.text("access_token"),
		second.text("refresh_token"), service.text("client_secret"), third.text("access_token"))

	s.token(redemption(id, code)) // a replay
	s.token(renewal(id, second.text("refresh_token")))
	s.token(renewal(webID, "secret-refresh", "client_secret", "secret-client-secret"))
	s.token(url.Values{"grant_type": {"client_credentials"}}, robotID, "secret-guess")
	s.revoke(id, second.text("access_token"))
	s.store.FailMethods(storetest.Before)
	s.token(redemption(id, code))
	s.token(renewal(id, second.text("refresh_token")))
	s.revoke(id, second.text("refresh_token"))
	b.get("/account")
	consent.submit("decision", "allow")
	s.store.Heal()
	consent.submit("decision", "allow")
	b.post("/authorize", url.Values{"token": {"secret-token"}})
	b.get("/authorize?continue=secret-sealed")
	account := b.get("/account")
	secrets = append(secrets, account.form("/logout").values.Get("token"))
	b.post("/logout", account.form("/logout").values)

	if s.logs.Len() < 15 {
		t.Errorf("there are only %d lines", s.logs.Len())
	}
	for _, entry := range s.logs.All() {
		line := fmt.Sprint(entry.LoggerName, entry.Message, entry.ContextMap())
		for i, secret := range secrets {
			if len(secret) < 7 {
				t.Fatalf("secret %d is %q", i, secret)
			}
			if strings.Contains(line, secret) {
				t.Errorf("secret %d is in the line %s", i, line)
			}
		}
	}
}
