package oauth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

func TestUserCodesAreReadAsPeopleTypeThem(t *testing.T) {
	for _, tc := range []struct {
		rule, typed, want string // want "" for a refusal
	}{
		{"as it is shown", "WDJB-MJHT", "WDJBMJHT"},
		{"without the dash", "WDJBMJHT", "WDJBMJHT"},
		{"in lower case", "wdjb-mjht", "WDJBMJHT"},
		{"with spaces", "  wdjb mjht\n", "WDJBMJHT"},
		{"with a space at each letter", "W D J B M J H T", "WDJBMJHT"},
		{"with other dashes", "WDJB–MJ—HT", "WDJBMJHT"},
		{"with a minus sign", "WDJB−MJHT", "WDJBMJHT"},
		{"with dots and quotes", "“WDJB.MJHT”", "WDJBMJHT"},
		{"with a zero-width space", "WDJB\u200bMJHT", "WDJBMJHT"},
		{"in wide letters", "ｗｄｊｂ－ＭＪＨＴ", "WDJBMJHT"},
		{"with the dash of a Japanese keyboard", "WDJBーMJHT", "WDJBMJHT"},

		{"nothing", "", ""},
		{"dashes only", "----", ""},
		{"one letter less", "WDJB-MJH", ""},
		{"one letter more", "WDJB-MJHTB", ""},
		{"a vowel", "WDJA-MJHT", ""},
		{"a digit", "WDJ8-MJHT", ""},
		{"a letter of another alphabet", "WDJB-МJHT", ""},
		{"a letter whose capital is another one", "WDJB-MJHſ", ""},
		{"a sign", "WDJB+MJHT", ""},
		{"bytes that are no text", "WDJB\xffMJHT", ""},
		{"endless separators", strings.Repeat("-", 200) + "WDJBMJHT", ""},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			code, ok := oauth.ParseUserCode(tc.typed)
			if ok != (tc.want != "") || ok && string(code) != tc.want {
				t.Errorf("%q is read as %q, %v; want %q", tc.typed, string(code), ok, tc.want)
			}
		})
	}
}

func TestNewUserCodesUseAllLettersAlike(t *testing.T) {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	counts := map[rune]int{}
	const codes = 5000
	for range codes {
		code := oauth.NewUserCode()
		if got, ok := oauth.ParseUserCode(code.String()); !ok || got != code {
			t.Fatalf("%s is read as %s", code, got)
		}
		for _, r := range string(code) {
			counts[r]++
		}
	}
	// 2000 of each are expected, with a deviation of 44.
	for _, r := range letters {
		if n := counts[r]; n < 1700 || n > 2300 {
			t.Errorf("%c comes up %d times of %d", r, n, codes*8)
		}
	}
	if len(counts) != len(letters) {
		t.Errorf("%d letters, want %d", len(counts), len(letters))
	}
}

func TestUserCodeIsShownWithADash(t *testing.T) {
	if got := oauth.UserCode("WDJBMJHT").String(); got != "WDJB-MJHT" {
		t.Errorf("shown as %q", got)
	}
	if got := oauth.UserCode("").String(); got != "" {
		t.Errorf("no code is shown as %q", got)
	}
}

func TestDeviceAuthorizationHasTheNamesOfTheRFC(t *testing.T) {
	got, err := json.Marshal(oauth.DeviceAuthorization{
		DeviceCode: "a", UserCode: "b", VerificationURI: "c", VerificationURIComplete: "d", ExpiresIn: 600, Interval: 5,
	})
	want := `{"device_code":"a","user_code":"b","verification_uri":"c","verification_uri_complete":"d","expires_in":600,"interval":5}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s %v\nwant %s", got, err, want)
	}
}

func TestRegistrationOfTheDeviceGrant(t *testing.T) {
	const device = `"urn:ietf:params:oauth:grant-type:device_code"`
	for _, tc := range []struct {
		rule, body string
		offered    bool
		grants     int // zero for a refusal
	}{
		{"beside the code, where it is offered", `{"redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code",` + device + `]}`, true, 2},
		{"beside the code, where it is not", `{"redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code",` + device + `]}`, false, 1},
		{"alone, it needs no redirect_uris", `{"grant_types":[` + device + `]}`, true, 1},
		{"with refresh tokens", `{"grant_types":[` + device + `,"refresh_token"]}`, true, 2},
		{"alone, where it is not offered", `{"grant_types":[` + device + `]}`, false, 0},
		{"the code still needs redirect_uris", `{"grant_types":["authorization_code",` + device + `]}`, true, 0},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			m, err := oauth.DecodeClientMetadata([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if tc.offered {
				err = m.Normalize(oauth.GrantDeviceCode)
			} else {
				err = m.Normalize()
			}
			if (err == nil) != (tc.grants > 0) || err == nil && len(m.GrantTypes) != tc.grants {
				t.Errorf("got %v, %v", m.GrantTypes, err)
			}
			if err == nil && (m.TokenEndpointAuthMethod != oauth.AuthNone || m.RedirectURIs == nil) {
				t.Errorf("registered as %+v", m)
			}
		})
	}
}

func FuzzParseUserCode(f *testing.F) {
	for _, typed := range []string{"WDJB-MJHT", "ｗｄｊｂ－ＭＪＨＴ", "\xff", "ſſſſſſſſ", "----"} {
		f.Add(typed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := oauth.ParseUserCode(typed)
		if !ok {
			return
		}
		if len(code) != 8 || strings.Trim(string(code), "BCDFGHJKLMNPQRSTVWXZ") != "" {
			t.Fatalf("%q is read as %q", typed, string(code))
		}
		if again, ok := oauth.ParseUserCode(code.String()); !ok || again != code {
			t.Fatalf("%q is read as %q and then as %q", typed, string(code), string(again))
		}
	})
}
