package audit

import "context"

// Source tells where a request comes from. Both functions may be nil, and are
// called only when there is something to tell.
type Source struct {
	IP        func() string
	RequestID func() string
}

// knowledge is what is known about a request so far. It belongs to the one
// goroutine that answers the request.
type knowledge struct {
	Source
	Event
}

type knowledgeKey struct{}

// Begin returns the context of a request whose events come from a source.
func Begin(ctx context.Context, from Source) context.Context {
	return context.WithValue(ctx, knowledgeKey{}, &knowledge{Source: from})
}

// Know notes what has become known about a request, for the events that follow:
// whoever refuses it need not know all of that.
func Know(ctx context.Context, note func(*Event)) {
	if k, ok := ctx.Value(knowledgeKey{}).(*knowledge); ok {
		note(&k.Event)
	}
}

// about returns what is known about a request; nothing outside of one.
func about(ctx context.Context) *knowledge {
	if k, ok := ctx.Value(knowledgeKey{}).(*knowledge); ok {
		return k
	}
	return &knowledge{}
}

func (k *knowledge) ip() string { return call(k.IP) }
func (k *knowledge) id() string { return call(k.RequestID) }

func call(f func() string) string {
	if f == nil {
		return ""
	}
	return f()
}
