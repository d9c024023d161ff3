package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func value(v string) store.Record { return store.Record{Value: []byte(v)} }

// stateOf returns what a store holds, as "key=value" in the order of the keys.
func stateOf(t *testing.T, s store.Store) string {
	t.Helper()
	var state []string
	for key, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		state = append(state, key+"="+string(r.Value))
	}
	slices.Sort(state)
	return strings.Join(state, " ")
}

func TestFaultyWithoutFaultsIsTheStoreItself(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.NewFaulty(memstore.New(0)) })
}

func TestFaultyRepeatingUpdatesKeepsTheContract(t *testing.T) {
	f := storetest.NewFaulty(memstore.New(0))
	f.RepeatUpdates()
	runs := 0
	for range 3 {
		err := f.Update(t.Context(), "k", func(r store.Record) (store.Record, error) {
			runs++
			r.Value = append(r.Value, 'x')
			return r, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := stateOf(t, f.Inner()); runs != 6 || got != "k=xxx" {
		t.Errorf("the function ran %d times and left %q, want 6 times and k=xxx", runs, got)
	}
}

// act calls one method. The store then holds a=1 and hour=v, which expires.
func act(ctx context.Context, f *storetest.Faulty, m storetest.Method) (err error) {
	switch m {
	case storetest.Get:
		_, err = f.Get(ctx, "a")
	case storetest.Put:
		err = f.Put(ctx, "b", value("2"))
	case storetest.Update:
		err = f.Update(ctx, "a", func(store.Record) (store.Record, error) { return value("2"), nil })
	case storetest.Delete:
		err = f.Delete(ctx, "a")
	case storetest.Keys:
		for _, err = range f.Keys(ctx, "") {
		}
	case storetest.List:
		for _, err = range f.List(ctx, "") {
		}
	case storetest.Watch:
		_, err = f.Watch(ctx, "")
	case storetest.Sweep:
		_, err = f.Sweep(ctx, time.Now().Add(2*time.Hour))
	}
	return err
}

func prepared(t *testing.T) *storetest.Faulty {
	t.Helper()
	f := storetest.NewFaulty(memstore.New(0))
	hour := store.Record{Value: []byte("v"), Expires: time.Now().Add(time.Hour)}
	if err := errors.Join(f.Inner().Put(t.Context(), "a", value("1")), f.Inner().Put(t.Context(), "hour", hour)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFaultyLeavesBehindWhatTheMomentSays(t *testing.T) {
	const untouched = "a=1 hour=v"
	tests := []struct {
		method                storetest.Method
		before, during, after string
	}{
		{storetest.Get, untouched, untouched, untouched},
		{storetest.Put, untouched, untouched, "a=1 b=2 hour=v"},
		{storetest.Update, untouched, untouched, "a=2 hour=v"},
		{storetest.Delete, untouched, untouched, "hour=v"},
		{storetest.Keys, untouched, untouched, untouched},
		{storetest.List, untouched, untouched, untouched},
		{storetest.Watch, untouched, untouched, untouched},
		{storetest.Sweep, untouched, untouched, "a=1"},
	}
	for _, test := range tests {
		for when, left := range map[storetest.Moment]string{
			storetest.Before: test.before, storetest.During: test.during, storetest.After: test.after,
		} {
			t.Run(string(test.method)+" fails "+when.String(), func(t *testing.T) {
				f := prepared(t)
				f.FailMethods(when, test.method)
				if err := act(t.Context(), f, test.method); err != storetest.ErrInjected {
					t.Errorf("got %v, want the injected error", err)
				}
				if got := stateOf(t, f.Inner()); got != left {
					t.Errorf("the store holds %q, want %q", got, left)
				}
				if n := f.Injected(); n != 1 {
					t.Errorf("%d faults are counted, want 1", n)
				}
				for _, test := range tests {
					if test.method != f.Calls()[0].Method && act(t.Context(), f, test.method) == storetest.ErrInjected {
						t.Errorf("%s fails as well", test.method)
					}
				}
				f.Heal()
				if err := act(t.Context(), f, test.method); err == storetest.ErrInjected {
					t.Error("the method still fails after Heal")
				}
			})
		}
	}
}

func TestFaultyFailsAllMethodsWhenNoneIsNamed(t *testing.T) {
	f := prepared(t)
	f.FailMethods(storetest.Before)
	for _, m := range []storetest.Method{
		storetest.Get, storetest.Put, storetest.Update, storetest.Delete, storetest.Keys, storetest.List,
		storetest.Watch, storetest.Sweep,
	} {
		if err := act(t.Context(), f, m); err != storetest.ErrInjected {
			t.Errorf("%s returned %v, want the injected error", m, err)
		}
	}
}

func TestFaultyFailsTheChosenCallOnly(t *testing.T) {
	f := prepared(t)
	work := []storetest.Method{storetest.Put, storetest.Get, storetest.Update, storetest.Get}
	f.FailCall(3, storetest.After)
	for i, m := range work {
		err := act(t.Context(), f, m)
		if want := i == 2; (err == storetest.ErrInjected) != want {
			t.Errorf("call %d returned %v", i+1, err)
		}
	}
	f.FailCall(1, storetest.Before)
	if err := act(t.Context(), f, storetest.Delete); err != storetest.ErrInjected {
		t.Errorf("the next call returned %v, want the injected error", err)
	}
	want := []storetest.Call{
		{Method: storetest.Put, Key: "b"}, {Method: storetest.Get, Key: "a"}, {Method: storetest.Update, Key: "a"},
		{Method: storetest.Get, Key: "a"}, {Method: storetest.Delete, Key: "a"},
	}
	if got := f.Calls(); !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestFaultyRunsTheUpdateFunctionAsTheMomentSays(t *testing.T) {
	for when, want := range map[storetest.Moment]bool{
		storetest.Before: false, storetest.During: true, storetest.After: true,
	} {
		f := prepared(t)
		f.FailMethods(when, storetest.Update)
		ran := false
		err := f.Update(t.Context(), "a", func(r store.Record) (store.Record, error) {
			ran = true
			return r, nil
		})
		if err != storetest.ErrInjected || ran != want {
			t.Errorf("failing %s: the function ran: %v, Update returned %v; want %v and the injected error",
				when, ran, err, want)
		}
	}
}

func TestFaultyDoesNotHideTheErrorOfAnUpdateFunction(t *testing.T) {
	errFn := errors.New("no")
	for _, when := range []storetest.Moment{storetest.During, storetest.After} {
		f := prepared(t)
		f.FailMethods(when, storetest.Update)
		err := f.Update(t.Context(), "a", func(store.Record) (store.Record, error) { return store.Record{}, errFn })
		if err != errFn {
			t.Errorf("failing %s: got %v, want the function's error", when, err)
		}
	}
}

func TestFaultyKeysFailAfterTheLastKey(t *testing.T) {
	f := prepared(t)
	f.FailMethods(storetest.After, storetest.Keys)
	var keys []string
	var last error
	for key, err := range f.Keys(t.Context(), "") {
		if last = err; err == nil {
			keys = append(keys, key)
		}
	}
	if len(keys) != 2 || last != storetest.ErrInjected {
		t.Errorf("got %q and %v, want both keys and the injected error", keys, last)
	}
}

// TestFailEachCallVisitsEveryFault moves a value from one record to another in
// the right order, so that no single fault loses it.
func TestFailEachCallVisitsEveryFault(t *testing.T) {
	var runs, faults int
	var states []string
	open := func(*testing.T) store.Store { return memstore.New(0) }
	storetest.FailEachCall(t, open, func(t *testing.T, f *storetest.Faulty) {
		if err := f.Inner().Put(t.Context(), "from", value("v")); err != nil {
			t.Fatal(err)
		}
		err := move(t.Context(), f)
		runs++
		faults += f.Injected()
		if (err == nil) != (f.Injected() == 0) {
			t.Errorf("the move returned %v after %d faults", err, f.Injected())
		}
		state := stateOf(t, f.Inner())
		if !strings.Contains(state, "=v") {
			t.Errorf("the value is lost: %q", state)
		}
		states = append(states, state)
	})
	// One run without a fault; Get fails in one way, Update in three, Delete in two.
	want := []string{"to=v", "from=v", "from=v", "from=v", "from=v to=v", "from=v to=v", "to=v"}
	if runs != 7 || faults != 6 || !slices.Equal(states, want) {
		t.Errorf("%d runs with %d faults left %q, want %q", runs, faults, states, want)
	}
}

func move(ctx context.Context, s store.Store) error {
	r, err := s.Get(ctx, "from")
	if err != nil {
		return err
	}
	err = s.Update(ctx, "to", func(store.Record) (store.Record, error) { return r, nil })
	if err != nil {
		return err
	}
	return s.Delete(ctx, "from")
}
