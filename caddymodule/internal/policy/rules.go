package policy

import (
	"math/bits"
	"strings"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
)

// Rules say which scopes the requests for one resource need.
type Rules struct {
	scopes  *Scopes
	tools   patterns
	methods patterns
}

// Rules returns the rules of a resource that knows the scopes with the names. It
// is nil when none of them names tools or methods: then nothing is asked of a
// request.
func (s *Scopes) Rules(names oauth.Scopes) *Rules {
	r := &Rules{scopes: s}
	for _, name := range names {
		i, ok := s.index[name]
		if !ok {
			continue
		}
		r.tools.add(s.all[i].Tools, 1<<i)
		r.methods.add(s.all[i].Methods, 1<<i)
	}
	if r.tools.empty() && r.methods.empty() {
		return nil
	}
	return r
}

// patterns finds the scopes that name something.
type patterns struct {
	exact map[string]Set
	globs []glob
}

type glob struct {
	pattern string
	scopes  Set
}

func (p *patterns) add(names []string, scope Set) {
	for _, name := range names {
		if strings.Contains(name, "*") {
			p.globs = append(p.globs, glob{name, scope})
			continue
		}
		if p.exact == nil {
			p.exact = map[string]Set{}
		}
		p.exact[name] |= scope
	}
}

func (p *patterns) empty() bool { return len(p.exact) == 0 && len(p.globs) == 0 }

// find returns the scopes that name s.
func (p *patterns) find(s string) Set {
	out := p.exact[s]
	for _, g := range p.globs {
		if out&g.scopes == 0 && fits(g.pattern, s) {
			out |= g.scopes
		}
	}
	return out
}

// name returns what of the configuration names s: s itself, or the first pattern
// with a star, or "".
func (p *patterns) name(s string) string {
	if _, ok := p.exact[s]; ok {
		return s
	}
	for _, g := range p.globs {
		if fits(g.pattern, s) {
			return g.pattern
		}
	}
	return ""
}

// NameOf returns a text of the configuration that stands for a tool: its name, or
// the first pattern that fits it. It is "" for a tool that no scope names.
func (r *Rules) NameOf(tool string) string { return r.tools.name(tool) }

// MethodCall is the method that calls a tool, and MethodList the one that lists
// them.
const (
	MethodCall = "tools/call"
	MethodList = "tools/list"
)

// Outcome is what is decided about a message.
type Outcome int

// The outcomes.
const (
	Allowed Outcome = iota
	Lacking         // the caller can get the scope that is missing
	Denied          // no scope that the caller can get is good for it
)

// String returns the outcome in a word, for metrics.
func (o Outcome) String() string { return [...]string{"allowed", "lacking", "denied"}[o] }

// Call is a message of a request and what was decided about it, for logs and
// metrics. Its texts come from the client.
type Call struct {
	Method  string // "" for an answer of the client
	Tool    string // of tools/call
	Outcome Outcome
}

// Decision is about a whole request: each of its messages has to be allowed.
type Decision struct {
	Outcome Outcome
	Calls   []Call

	// Needed are the scopes that the caller has to get, of all messages, when
	// the outcome is Lacking.
	Needed oauth.Scopes
}

// Decide decides about the messages of a caller who holds some scopes and can
// get others.
func (r *Rules) Decide(messages []Message, held, gainable Set) Decision {
	d := Decision{Calls: make([]Call, len(messages))}
	w := wants{scopes: r.scopes, held: held, gainable: gainable}
	for i := range messages {
		m, call := &messages[i], &d.Calls[i]
		if m.Method == "" {
			continue
		}
		call.Method = m.Method
		// The tool comes first: its scope may be good for the method as well.
		if m.Method == MethodCall {
			call.Tool = m.Name
			call.Outcome = w.one(r.tools.find(m.Name)) // no scope for a tool that nobody names
		}
		if methods := r.methods.find(m.Method); methods != 0 {
			call.Outcome = max(call.Outcome, w.one(methods))
		}
		d.Outcome = max(d.Outcome, call.Outcome)
	}
	if d.Outcome == Lacking {
		d.Needed = r.scopes.names(w.chosen)
	}
	return d
}

// wants collects the scopes that a caller has to get.
type wants struct {
	scopes         *Scopes
	held, gainable Set
	chosen         Set // so far
	complete       Set // with what they imply
}

// one asks for one of the scopes. Of those that the caller can get the first one
// of the configuration is chosen.
func (w *wants) one(of Set) Outcome {
	switch {
	case of&w.held != 0:
		return Allowed
	case of&w.gainable == 0:
		return Denied
	case of&w.complete == 0:
		first := bits.TrailingZeros64(uint64(of & w.gainable))
		w.chosen |= 1 << first
		w.complete |= w.scopes.implied[first] & w.gainable
	}
	return Lacking
}

// Shows reports whether a list of tools for a caller has the tool: when the
// caller may call it, or could and a scope says that this is enough. gainable is
// asked for when that depends on it.
func (r *Rules) Shows(tool string, held Set, gainable func() Set) bool {
	tools, method := r.tools.find(tool), r.methods.find(MethodCall)
	callable := func(with Set) bool { return tools&with != 0 && (method == 0 || method&with != 0) }
	return callable(held) || callable(held|r.scopes.listed) && callable(held|r.scopes.listed&gainable())
}
