package sample

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

//go:embed cases.json
var casesJSON []byte

// MaxCases bounds how many cases are kept: they live in memory, and whoever may call the tool may create them.
const MaxCases = 500

// The errors of [Cases]. Their texts can be shown to the user as they are.
var (
	ErrNoSuchCase   = errors.New("there is no such case")
	ErrTooManyCases = fmt.Errorf("the sample data holds %d cases, which is its limit; restart the server to begin again", MaxCases)
)

// A Case is an invented support case.
type Case struct {
	ID          string `json:"case_id" jsonschema:"nine digits"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Severity    string `json:"severity" jsonschema:"1 (network down) to 4 (question)"`
	Status      string `json:"status" jsonschema:"open, pending or closed"`
	Note        string `json:"note" jsonschema:"the latest note"`
	BugID       string `json:"bug_id" jsonschema:"the bug the case is about, or empty"`
}

// Cases keeps support cases in memory until the process ends. It is safe for concurrent use.
type Cases struct {
	mu   sync.Mutex
	all  map[string]Case
	next int
}

// NewCases reads the embedded cases.
func NewCases() (*Cases, error) {
	var list []Case
	if err := json.Unmarshal(casesJSON, &list); err != nil {
		return nil, fmt.Errorf("reading the sample cases: %w", err)
	}
	c := &Cases{all: make(map[string]Case, len(list))}
	for _, one := range list {
		id, err := strconv.Atoi(one.ID)
		if err != nil {
			return nil, fmt.Errorf("reading the sample case %q: %w", one.Title, err)
		}
		c.all[one.ID] = one
		c.next = max(c.next, id+1)
	}
	return c, nil
}

// Create keeps a new case under a fresh id, as open and without a note, and returns it.
func (c *Cases) Create(one Case) (Case, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= MaxCases {
		return Case{}, ErrTooManyCases
	}
	one.ID, one.Status, one.Note = strconv.Itoa(c.next), "open", ""
	c.next++
	c.all[one.ID] = one
	return one, nil
}

// Update replaces the status, severity and note of a case by those of change that are not empty, and returns the
// case. Earlier values are lost.
func (c *Cases) Update(id string, change Case) (Case, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.all[id]
	if !ok {
		return Case{}, ErrNoSuchCase
	}
	if change.Status != "" {
		one.Status = change.Status
	}
	if change.Severity != "" {
		one.Severity = change.Severity
	}
	if change.Note != "" {
		one.Note = change.Note
	}
	c.all[id] = one
	return one, nil
}
