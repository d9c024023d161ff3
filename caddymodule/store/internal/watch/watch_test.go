package watch

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

func drain(keys <-chan string) (got []string, closed bool) {
	for {
		select {
		case k, ok := <-keys:
			if !ok {
				return got, true
			}
			got = append(got, k)
		default:
			return got, false
		}
	}
}

func TestAWatcherGetsTheKeysUnderItsPrefixInOrder(t *testing.T) {
	var h Hub
	keys, err := h.Watch(t.Context(), "a/")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a/2", "b/1", "a/1", "a", "a/2"} {
		h.Publish(k)
	}
	got, closed := drain(keys)
	if want := []string{"a/2", "a/1", "a/2"}; !slices.Equal(got, want) || closed {
		t.Errorf("got %q, closed %v; want %q on an open channel", got, closed, want)
	}
}

func TestASlowWatcherIsCutOffAndOthersAreNot(t *testing.T) {
	var h Hub
	slow, err := h.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.Watch(t.Context(), "other/")
	if err != nil {
		t.Fatal(err)
	}
	for i := range buffer {
		h.Publish(strconv.Itoa(i))
	}
	if n := len(slow); n != buffer {
		t.Fatalf("%d keys are waiting, want %d", n, buffer)
	}
	h.Publish("one too many")
	got, closed := drain(slow)
	if len(got) != buffer || !closed {
		t.Errorf("the slow watcher got %d keys, closed %v; want %d and a closed channel", len(got), closed, buffer)
	}
	h.Publish("other/1")
	if got, closed := drain(other); !slices.Equal(got, []string{"other/1"}) || closed {
		t.Errorf("the other watcher got %q, closed %v", got, closed)
	}
}

func TestAWatcherEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		keys, err := h.Watch(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		h.Publish("before")
		cancel()
		synctest.Wait()
		h.Publish("after")
		got, closed := drain(keys)
		if !slices.Equal(got, []string{"before"}) || !closed {
			t.Errorf("got %q, closed %v; want what came before and a closed channel", got, closed)
		}
		if len(h.watchers) != 0 {
			t.Errorf("%d watchers are left behind", len(h.watchers))
		}
	})
}

func TestAnEndedContextIsRefused(t *testing.T) {
	var h Hub
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Watch(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestResetCutsOffAndWelcomesAgain(t *testing.T) {
	var h Hub
	keys, err := h.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	h.Reset()
	if _, closed := drain(keys); !closed {
		t.Error("the channel is open after Reset")
	}
	if _, err := h.Watch(t.Context(), ""); err != nil {
		t.Errorf("watching after Reset: %v", err)
	}
}

func TestACloseCutsOffAndRefuses(t *testing.T) {
	var h Hub
	keys, err := h.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	h.Close()
	h.Publish("late")
	if got, closed := drain(keys); len(got) != 0 || !closed {
		t.Errorf("got %q, closed %v", got, closed)
	}
	if _, err := h.Watch(t.Context(), ""); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v, want store.ErrClosed", err)
	}
}
