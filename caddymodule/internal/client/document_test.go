package client_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/client"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

// discover finds a client that has to be there.
func (n *node) discover(t testing.TB) *client.Client {
	t.Helper()
	c, err := n.Discover(t.Context(), documentID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// touched makes a client known.
func (n *node) touched(t testing.TB) *client.Client {
	t.Helper()
	c := n.discover(t)
	if err := n.Touch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *node) wantUnknown(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, client.ErrDocument) || !errors.Is(err, client.ErrUnknown) {
		t.Errorf("%s: %v, want ErrDocument", what, err)
	}
}

func TestADocumentDescribesAClient(t *testing.T) {
	n := newNode(t, newWeb(), nil)
	n.web.put(documentID, documentBody(t, nil))
	c := n.discover(t)
	if c.ID != documentID || c.Kind != client.Described || c.Name != "App" || !c.Public() || c.Signs() {
		t.Errorf("got %+v", c)
	}
	if !c.Redirects("http://localhost:4711/cb") || c.Redirects("http://127.0.0.1:4711/cb") || c.Redirects("https://app.example/cb2") {
		t.Error("the redirect URIs of the document do not count as those of a registration")
	}
	if !c.Allows(oauth.GrantAuthorizationCode) || !c.Allows(oauth.GrantRefreshToken) || c.Allows(oauth.GrantClientCredentials) {
		t.Errorf("it may use %q", c.GrantTypes)
	}
	if records := n.records(t, "document"); len(records) != 0 {
		t.Errorf("a stranger leaves %v in the store", records)
	}
}

func TestStrangersAreFetchedForPagesOnly(t *testing.T) {
	n := newNode(t, newWeb(), nil)
	n.web.put(documentID, documentBody(t, nil))
	_, err := n.Get(t.Context(), documentID)
	n.wantUnknown(t, "Get", err)
	_, err = n.Recall(t.Context(), documentID)
	n.wantUnknown(t, "Recall", err)
	if n.web.count(documentID) != 0 {
		t.Error("it was fetched")
	}
	n.discover(t)
	if _, err := n.Get(t.Context(), documentID); err != nil {
		t.Errorf("the client is not known a moment later: %v", err)
	}
}

func TestWhoeverAsksForTooManyDocumentsGetsNoMore(t *testing.T) {
	n := newNode(t, newWeb(), nil)
	n.web.put(documentID, documentBody(t, nil))
	asked := 0
	may := func(yes bool) func() bool { return func() bool { asked++; return yes } }
	_, err := n.Directory.Discover(t.Context(), documentID, may(false))
	n.wantUnknown(t, "one too many", err)
	if n.web.count(documentID) != 0 || asked != 1 {
		t.Errorf("%d fetches, asked %d times", n.web.count(documentID), asked)
	}
	if _, err := n.Directory.Discover(t.Context(), documentID, may(true)); err != nil {
		t.Error(err)
	}
	if _, err := n.Directory.Discover(t.Context(), documentID, may(false)); err != nil || asked != 2 {
		t.Errorf("what is known counts as well: %v, asked %d times", err, asked)
	}
}

func TestTheOperatorSaysWhoseDocumentsCount(t *testing.T) {
	w := newWeb()
	w.put(documentID, documentBody(t, nil))
	const local = "http://localhost:4000/client.json"
	w.put(local, documentBody(t, map[string]any{"client_id": local}))
	hosts := func(hosts ...string) client.DocumentPolicy {
		return client.DocumentPolicy{HostPolicy: client.HostPolicy{Hosts: hosts}}
	}
	for rule, tt := range map[string]struct {
		policy client.DocumentPolicy
		id     string
		good   bool
	}{
		"on":                                 {client.DocumentPolicy{}, documentID, true},
		"off":                                {client.DocumentPolicy{HostPolicy: client.HostPolicy{Off: true}}, documentID, false},
		"on the list":                        {hosts("other.example", "app.example"), documentID, true},
		"not on the list":                    {hosts("other.example", "example"), documentID, false},
		"loopback":                           {client.DocumentPolicy{}, local, false},
		"loopback with the switch":           {client.DocumentPolicy{Loopback: true}, local, true},
		"the switch while documents are off": {client.DocumentPolicy{HostPolicy: client.HostPolicy{Off: true}, Loopback: true}, local, false},
	} {
		n := newNode(t, w, nil, func(c *client.Config) { c.Documents = tt.policy })
		before := w.count(tt.id)
		c, err := n.Discover(t.Context(), tt.id)
		if (err == nil) != tt.good || err != nil && !errors.Is(err, client.ErrDocument) {
			t.Errorf("%s: %v, %v", rule, c, err)
		}
		if !tt.good && w.count(tt.id) != before {
			t.Errorf("%s: it was fetched", rule)
		}
	}
}

func TestAllFailuresLookTheSame(t *testing.T) {
	n := newNode(t, newWeb(), nil)
	n.web.put("https://app.example/invalid", "{}")
	n.web.answer("https://app.example/gone", webAnswer{status: 410})
	for _, id := range []string{
		"https://app.example/missing", "https://app.example/invalid", "https://app.example/gone", "https://app.example/",
		"https://localhost/a", "http://app.example/a", "https://10.0.0.1/a",
	} {
		_, err := n.Discover(t.Context(), id)
		n.wantUnknown(t, id, err)
	}
	if reasons := n.logs.FilterMessage("a client metadata document was refused").Len(); reasons != 7 {
		t.Errorf("the log has %d reasons", reasons)
	}
	if records := n.store.Calls(); slices.ContainsFunc(records, func(c storetest.Call) bool { return c.Method != storetest.Get }) {
		t.Errorf("strangers made it write: %v", records)
	}
}

func TestADocumentIsFetchedAgainWhenItIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, nil))
		for range 3 {
			n.discover(t)
			time.Sleep(3 * time.Minute)
		}
		if got := n.web.count(documentID); got != 1 {
			t.Errorf("%d fetches within ten minutes", got)
		}
		n.web.put(documentID, documentBody(t, map[string]any{"client_name": "New"}))
		time.Sleep(2 * time.Minute)
		if c := n.discover(t); c.Name != "New" || n.web.count(documentID) != 2 {
			t.Errorf("%q after %d fetches", c.Name, n.web.count(documentID))
		}
	})
}

// A person may look at a page for a while, and the document is not there when
// they press the button.
func TestADocumentThatFailsForAMomentIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, nil))
		n.discover(t)
		n.web.remove(documentID)
		time.Sleep(30 * time.Minute)
		n.discover(t)
		other := newNode(t, n.web, n.store)
		n.touched(t)
		if _, err := other.Get(t.Context(), documentID); err != nil {
			t.Errorf("what the person agreed to is not kept: %v", err)
		}
		if err := n.store.Delete(t.Context(), prefix+"document/"+slices.Collect(maps.Keys(n.records(t, "document")))[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		_, err := n.Discover(t.Context(), documentID)
		n.wantUnknown(t, "long after its last fetch", err)
	})
}

func TestTheLastCopyOfAKnownClientIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		n := newNode(t, w, nil)
		w.put(documentID, documentBody(t, nil))
		n.touched(t)
		if got := len(n.records(t, "document")); got != 1 {
			t.Fatalf("%d copies", got)
		}
		w.remove(documentID)
		time.Sleep(24 * time.Hour)
		// Another node, or this one after a restart.
		other := newNode(t, w, n.store)
		for what, d := range map[string]*node{"this node": n, "another node": other} {
			for name, get := range map[string]func() (*client.Client, error){
				"Get":      func() (*client.Client, error) { return d.Get(t.Context(), documentID) },
				"Discover": func() (*client.Client, error) { return d.Discover(t.Context(), documentID) },
				"Recall":   func() (*client.Client, error) { return d.Recall(t.Context(), documentID) },
			} {
				if c, err := get(); err != nil || c.Name != "App" {
					t.Errorf("%s on %s: %v", name, what, err)
				}
			}
		}
		before := w.count(documentID)
		for range 5 {
			if _, err := other.Get(t.Context(), documentID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := w.count(documentID); got != before {
			t.Errorf("%d fetches within the pause", got-before)
		}
		// Use does not prolong what nobody confirms.
		for range 40 {
			if c, err := n.Get(t.Context(), documentID); err == nil {
				_ = n.Touch(t.Context(), c)
			}
			time.Sleep(24 * time.Hour)
		}
		_, err := n.Get(t.Context(), documentID)
		n.wantUnknown(t, "40 days later", err)
	})
}

func TestAFreshCopyNeedsNoFetch(t *testing.T) {
	w := newWeb()
	n := newNode(t, w, nil)
	w.put(documentID, documentBody(t, nil))
	n.touched(t)
	other := newNode(t, w, n.store)
	if _, err := other.Get(t.Context(), documentID); err != nil || w.count(documentID) != 1 {
		t.Errorf("%v after %d fetches", err, w.count(documentID))
	}
}

func TestACopyIsWrittenOnceADayAndWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, nil))
		writes := func() (count int) {
			for _, c := range n.store.Calls() {
				if c.Method == storetest.Put {
					count++
				}
			}
			return count
		}
		for range 100 {
			n.touched(t)
			time.Sleep(10 * time.Minute)
		}
		if got := writes(); got != 1 {
			t.Errorf("%d writes in 17 hours", got)
		}
		n.web.put(documentID, documentBody(t, map[string]any{"client_name": "New"}))
		time.Sleep(10 * time.Minute)
		n.touched(t)
		if got := writes(); got != 2 {
			t.Errorf("%d writes after a change", got)
		}
		for range 60 {
			time.Sleep(24 * time.Hour)
			n.touched(t)
		}
		if got := writes(); got < 25 || got > 63 {
			t.Errorf("%d writes in 60 days", got)
		}
	})
}

func TestADocumentThatIsGoneTakesTheClientWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, nil))
		n.touched(t)
		n.web.answer(documentID, webAnswer{status: 410})
		time.Sleep(time.Hour)
		_, err := n.Get(t.Context(), documentID)
		n.wantUnknown(t, "at once", err)
		_, err = n.Get(t.Context(), documentID)
		n.wantUnknown(t, "and then", err)
		if records := n.records(t, "document"); len(records) != 0 {
			t.Errorf("the store has %v", records)
		}
	})
}

func TestAnInvalidDocumentDoesNotReplaceAGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWeb(), nil)
		n.web.put(documentID, documentBody(t, nil))
		n.touched(t)
		n.web.put(documentID, documentBody(t, map[string]any{"client_secret": "x"}))
		time.Sleep(time.Hour)
		if c, err := n.Get(t.Context(), documentID); err != nil || c.Name != "App" {
			t.Errorf("%v, %v", c, err)
		}
		n.web.put(documentID, documentBody(t, map[string]any{"client_name": "Mended"}))
		time.Sleep(time.Minute)
		if c, err := n.Get(t.Context(), documentID); err != nil || c.Name != "Mended" {
			t.Errorf("%v, %v", c, err)
		}
	})
}

func TestCopiesOfDocumentsAreCheckedWhenTheyAreMoved(t *testing.T) {
	n := newNode(t, newWeb(), nil)
	n.web.put(documentID, documentBody(t, nil))
	n.touched(t)
	for name, r := range n.records(t, "document") {
		if err := client.CheckDocument(name, r.Value); err != nil {
			t.Error(err)
		}
		for rule, bad := range map[string][2]string{
			"another key":     {strings.Repeat("A", 52), string(r.Value)},
			"another version": {name, strings.Replace(string(r.Value), `"v":1`, `"v":2`, 1)},
			"no document":     {name, `{"v":1}`},
			"no JSON":         {name, `x`},
		} {
			if client.CheckDocument(bad[0], []byte(bad[1])) == nil {
				t.Errorf("%s is let through", rule)
			}
		}
	}
}

// Whatever call to the store fails, it is an error, and the same thing works when
// the store does again.
func TestDocumentsWhenTheStoreFails(t *testing.T) {
	storetest.FailEachCall(t, func(t *testing.T) store.Store { return memstore.New(0) }, func(t *testing.T, f *storetest.Faulty) {
		w := newWeb()
		w.put(documentID, documentBody(t, nil))
		n := newNode(t, w, f)
		insist := func(what string, do func() error) {
			for range 3 {
				err := do()
				if err == nil {
					return
				}
				if errors.Is(err, client.ErrUnknown) {
					t.Fatalf("%s: %v, which would make clients forget who they are", what, err)
				}
			}
			t.Fatalf("%s fails for good", what)
		}
		var c *client.Client
		insist("discover", func() (err error) { c, err = n.Discover(t.Context(), documentID); return err })
		insist("touch", func() error { return n.Touch(t.Context(), c) })
		other := newNode(t, w, f)
		w.remove(documentID)
		insist("get", func() (err error) { c, err = other.Get(t.Context(), documentID); return err })
		if c.Name != "App" {
			t.Error(fmt.Sprint(c))
		}
	})
}
