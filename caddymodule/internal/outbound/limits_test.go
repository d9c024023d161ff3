package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// roundTripper is a web in one function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func good(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader("{}")),
	}, nil
}

func TestManyWhoAskShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int32
		f := NewWith(Options{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			fetches.Add(1)
			time.Sleep(time.Second)
			return good(r)
		})})
		// The first to ask leaves; the others get their answer all the same.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.Get(ctx, Public, "https://a.example/x", accept); !errors.Is(err, context.Canceled) {
				t.Errorf("the first one gets %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if _, err := f.Get(t.Context(), Public, "https://a.example/x", accept); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestAfterAFailureThereIsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		fails := true
		f := NewWith(Options{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			fetches++
			return good(r)
		})})
		reader := func([]byte) (any, error) {
			if fails {
				return nil, errors.New("no good")
			}
			return nil, nil
		}
		for range 5 {
			if _, err := f.Get(t.Context(), Public, "https://a.example/x", reader); err == nil {
				t.Fatal("fetched")
			}
			time.Sleep(time.Second)
		}
		if fetches != 1 {
			t.Errorf("%d fetches within the pause", fetches)
		}
		fails = false
		if _, err := f.Get(t.Context(), Public, "https://a.example/y", reader); err != nil {
			t.Errorf("another address waits as well: %v", err)
		}
		time.Sleep(PauseTime)
		if _, err := f.Get(t.Context(), Public, "https://a.example/x", reader); err != nil {
			t.Errorf("the failure is remembered: %v", err)
		}
	})
}

func TestNobodyIsHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewWith(Options{Transport: roundTripper(good)})
		count := func(address func(int) string) (n int) {
			for i := range 200 {
				if _, err := f.Get(t.Context(), Public, address(i), accept); err == nil {
					n++
				} else if !errors.Is(err, errBusy) {
					t.Fatal(err)
				}
			}
			return n
		}
		if n := count(func(i int) string { return fmt.Sprintf("https://A.example:%d/%d", 1000+i, i) }); n != perMinuteHost {
			t.Errorf("%d fetches from one host, want %d", n, perMinuteHost)
		}
		if n := count(func(i int) string { return fmt.Sprintf("https://h%d.example/x", i) }); n != perMinute-perMinuteHost {
			t.Errorf("%d further fetches in all, want %d", n, perMinute-perMinuteHost)
		}
		if _, err := f.Get(t.Context(), Anywhere, "https://h0.example/x", accept); err != nil {
			t.Errorf("what the operator wrote down waits as well: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := f.Get(t.Context(), Public, "https://a.example/0", accept); err != nil {
			t.Errorf("after a minute: %v", err)
		}
	})
}

func TestOneAddressIsNotHammeredUnderManyNames(t *testing.T) {
	l := newLimits()
	for i := range perMinuteNetwork {
		// One customer has a network of 64 bits.
		if err := l.address(netip.MustParseAddr(fmt.Sprintf("2a00:1450::%x", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.address(netip.MustParseAddr("2a00:1450::ffff")); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	if err := l.address(netip.MustParseAddr("2a00:1450:0:1::1")); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
}

func TestSlowServersTakeOnlySoManySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		f := NewWith(Options{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 3 * slots {
			wg.Go(func() {
				if _, err := f.Get(t.Context(), Public, fmt.Sprintf("https://h%d.example/x", i), accept); err == nil {
					t.Error("fetched")
				}
			})
		}
		wg.Wait()
		if took := time.Since(begin); took > timeout || most.Load() != slots {
			t.Errorf("%d at once, and all took %v", most.Load(), took)
		}
	})
}
