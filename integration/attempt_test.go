package integration

import (
	"errors"
	"net"
	"runtime"
	"testing"
)

// errReported says that a part of a test has failed, which the test has been told already.
var errReported = errors.New("it failed")

// errUnavailable is the answer 503 where a part of a test cannot go on with it.
var errUnavailable = errors.New("503 Service Unavailable")

// attempt runs a part of a test that the network may fail, since the gateway is killed or changes its configuration
// meanwhile. It returns what the network said, or errUnavailable. Everything else that goes wrong, a wrong answer or
// none in time, fails the test. Unlike the test itself it may run on any goroutine.
func attempt(t testing.TB, part func(t testing.TB)) error {
	a := &attempted{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.err = errReported
		part(a)
		a.err = nil
	}()
	<-done
	return a.err
}

// attempted is the test as a part of it sees it.
type attempted struct {
	testing.TB
	err error
}

// Fatal ends the part. All that is given an error here are requests.
func (a *attempted) Fatal(args ...any) {
	a.Helper()
	err, ok := args[0].(error)
	slow, isNet := errors.AsType[net.Error](err)
	if ok && (!isNet || !slow.Timeout()) {
		a.err = err
	} else {
		a.Error(args...)
	}
	runtime.Goexit()
}

func (a *attempted) Fatalf(format string, args ...any) {
	a.Helper()
	a.Errorf(format, args...)
	runtime.Goexit()
}
