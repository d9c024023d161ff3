package pages

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestDevicePage(t *testing.T) {
	r := newRenderer(t)
	for name, c := range map[string]struct {
		view    Device
		intro   string
		alert   string
		invalid bool
	}{
		"empty":   {Device{}, "Enter the code that your device shows.", "", false},
		"filled":  {Device{Code: userCode, Compare: true}, "Is this the code that your device shows? Continue only if it is.", "", false},
		"unknown": {Device{Code: userCode, Failure: UnknownUserCode}, "Enter the code that your device shows.", "No device is waiting with this codeCompare it with your device. A code works once, for 10 minutes; after that your device shows a new one.", true},
		"pause":   {Device{Code: userCode, Failure: TooManyUserCodes, Wait: 90 * time.Second}, "Enter the code that your device shows.", "Too many triesWait 2 minutes, then try again.", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.view.Token = token
			_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error { return r.Device(w, req, 200, c.view) })
			if got := doc.one(t, "p", ".id").text(); got != c.intro {
				t.Errorf("intro %q, want %q", got, c.intro)
			}
			alert := ""
			for _, n := range doc.all("div", "role=alert") {
				alert += n.text()
			}
			if alert != c.alert {
				t.Errorf("alert %q, want %q", alert, c.alert)
			}
			in := doc.one(t, "form", "action="+PathDevice).one(t, "input", "name="+FieldUserCode)
			if in.attr("value") != c.view.Code || in.has("autofocus") || in.attr("autocomplete") != "off" {
				t.Errorf("input %v", in.Attr)
			}
			if got := in.attr("aria-invalid") == "true" && in.attr("aria-describedby") == "failure"; got != c.invalid {
				t.Errorf("marked invalid: %v", got)
			}
			title := "Connect a device – Cisco Support"
			if c.alert != "" {
				title = "Error: " + title
			}
			if got := doc.one(t, "title").text(); got != title {
				t.Errorf("title %q, want %q", got, title)
			}
			if !strings.Contains(doc.one(t, "main").text(), "Whoever sends you a code wants your access.") {
				t.Error("nobody is warned of codes that others send")
			}
		})
	}
}

func TestWhatWasTypedComesBackShortAndAsText(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Device(w, req, 200, Device{Token: token, Failure: UnknownUserCode, Code: `"><b>` + strings.Repeat("x", 500)})
	})
	if got := doc.one(t, "input", "type=text").attr("value"); !strings.HasPrefix(got, `"><b>`) || len(got) > 64 {
		t.Errorf("value %q", got)
	}
}

func TestConsentOfADevice(t *testing.T) {
	pages := everyPage(newRenderer(t))
	for name, want := range map[string]struct{ heading, words string }{
		"configured": {"Connect Nightly report to Cisco Support?", "Added by whoever runs this server."},
		"described":  {"Connect Claude Code to Cisco Support?", "An app on a device, named by claude.aiWe can’t see which device, or which program on it, is asking."},
		"registered": {"Connect “Claude Code” to Cisco Support?", "Unconfirmed app on a deviceIt calls itself “Claude Code”, but any program can use that name."},
		"nameless":   {"Connect Unnamed app to Cisco Support?", "Unconfirmed app on a deviceIt gives no name."},
		"hostile":    {"Connect “<script>alert(1)</script>” to Cisco Support?", "Unconfirmed app on a device"},
	} {
		t.Run(name, func(t *testing.T) {
			_, doc := render(t, "en", pages["consent of a device "+name])
			if got := doc.one(t, "h1").text(); got != want.heading {
				t.Errorf("heading %q, want %q", got, want.heading)
			}
			text := doc.one(t, "main").text()
			for _, words := range []string{
				want.words, "Continue only if your device shows " + userCode,
				"You must have started this yourself, on a device in front of you. Whoever sent you this code gets the access.",
				"After you allow it, your device goes on by itself.",
			} {
				if !strings.Contains(text, words) {
					t.Errorf("%q is not in %q", words, text)
				}
			}
			if strings.Contains(text, "this computer") || strings.Contains(text, "Returns to") {
				t.Errorf("the page speaks of an address: %q", text)
			}
			if len(doc.all(".shield")) > 0 {
				t.Error("a shield stands for a device that nobody knows")
			}
			if got := doc.one(t, "form", "id=decide").attr("action"); got != PathDevice {
				t.Errorf("the answer goes to %q", got)
			}
			_, doc = render(t, "en", pages["login for a device "+name])
			if got := doc.one(t, "form", "action="+PathDevice).one(t, "button", "value="+DecisionDeny).text(); got != "Cancel" {
				t.Errorf("cancel %q", got)
			}
		})
	}
}

func TestOtherConsentsDoNotSpeakOfDevices(t *testing.T) {
	_, doc := render(t, "en", everyPage(newRenderer(t))["consent app"])
	if text := doc.one(t, "main").text(); strings.Contains(text, "device") {
		t.Errorf("page %q", text)
	}
}

func TestDeviceDone(t *testing.T) {
	pages := everyPage(newRenderer(t))
	for name, want := range map[string]string{
		"device done registeredfalse": "Allowed. Go back to your device “Claude Code” can now use Cisco Support as alice.",
		"device done registeredtrue":  "Cancelled. Your device gets no access “Claude Code” was not given access to Cisco Support.",
	} {
		_, doc := render(t, "en", pages[name])
		if got := doc.one(t, "main").text(); !strings.Contains(got, want) || !strings.Contains(got, "You can close this page.") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if len(doc.all("meta", "http-equiv=refresh")) > 0 || len(doc.all("form")) > 0 || len(doc.one(t, "main").all("a")) > 0 {
			t.Errorf("%s leads somewhere", name)
		}
	}
}

func TestADeviceOfTheAccountPage(t *testing.T) {
	r := newRenderer(t)
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Account(w, req, 200, Account{User: "alice", Token: token, Apps: []App{
			{ID: "g1", Client: clientsOnDevices()["registered"], Scopes: []string{"Read bugs"}, Connected: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		}})
	})
	if got := doc.one(t, "ul", ".apps").text(); !strings.Contains(got, "“Claude Code” unconfirmed Read bugs · on a device Connected 2 Jan 2026") {
		t.Errorf("list %q", got)
	}
}

func TestALevelThatDoesNotFitADeviceIsRefused(t *testing.T) {
	for name, c := range map[string]Client{
		"shield for a device":          {Level: Confirmed, ID: "https://claude.ai/x", Device: true},
		"known address for a device":   {Level: KnownWebsite, Device: true},
		"website for a device":         {Level: UnconfirmedWebsite, Device: true},
		"device with an address":       {Level: UnconfirmedApp, Device: true, Redirect: "https://claude.ai/cb"},
		"described without a document": {Level: ConfirmedLocal, ID: "mcp_1", Device: true},
		"neither a device nor a place": {Level: UnconfirmedApp},
		"level that does not exist":    {Level: Configured + 1, Device: true},
		"described by a scheme":        {Level: ConfirmedLocal, ID: "claude:doc", Device: true},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newClientView(c); !errors.Is(err, ErrView) {
				t.Errorf("error %v, want ErrView", err)
			}
		})
	}
}
