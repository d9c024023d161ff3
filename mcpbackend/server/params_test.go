package server

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// searchParams are the arguments of the search by keyword: every kind of param.
var searchParams = bugTools[1].params()

func TestParseArgs(t *testing.T) {
	defaults := map[string]string{"keyword": "x", "page_index": "1", "modified_date": "5"}
	with := func(pairs ...string) map[string]string {
		m := maps.Clone(defaults)
		for i := 0; i+1 < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, tc := range []struct {
		name, in string
		want     map[string]string
		err      string
	}{
		{name: "defaults are filled in", in: `{"keyword":"x"}`, want: with()},
		{name: "text is trimmed", in: `{"keyword":"  memory leak\n"}`, want: with("keyword", "memory leak")},
		{name: "text of fifty characters fits, whatever their bytes", in: `{"keyword":"` + strings.Repeat("ä", 50) + `"}`, want: with("keyword", strings.Repeat("ä", 50))},
		{name: "severity as text", in: `{"keyword":"x","severity":"3"}`, want: with("severity", "3")},
		{name: "severity as a number", in: `{"keyword":"x","severity":3}`, want: with("severity", "3")},
		{name: "severity as a whole float", in: `{"keyword":"x","severity":3.0}`, want: with("severity", "3")},
		{name: "modified_date as a number", in: `{"keyword":"x","modified_date":2}`, want: with("modified_date", "2")},
		{name: "page_index as a number", in: `{"keyword":"x","page_index":12}`, want: with("page_index", "12")},
		{name: "page_index as text", in: `{"keyword":"x","page_index":" 12 "}`, want: with("page_index", "12")},
		{name: "a choice in the other case", in: `{"keyword":"x","status":"o","sort_by":"SEVERITY"}`, want: with("status", "O", "sort_by", "severity")},
		{name: "null is absent", in: `{"keyword":"x","status":null,"page_index":null}`, want: with()},
		{name: "blank text is absent", in: `{"keyword":"x","status":" ","modified_date":""}`, want: with()},
		{name: "required and missing", in: `{}`, err: "The argument keyword is required."},
		{name: "no arguments at all", in: ``, err: "The argument keyword is required."},
		{name: "null for all arguments", in: `null`, err: "The argument keyword is required."},
		{name: "required and blank", in: `{"keyword":" "}`, err: "The argument keyword is required."},
		{name: "zero is not missing", in: `{"keyword":0}`, err: "The argument keyword must be plain text of at most 50 characters."},
		{name: "text that is too long", in: `{"keyword":"` + strings.Repeat("ä", 51) + `"}`, err: "The argument keyword must be plain text of at most 50 characters."},
		{name: "control characters", in: `{"keyword":"a\u001b[31m"}`, err: "The argument keyword must be plain text of at most 50 characters."},
		{name: "an array for text", in: `{"keyword":["x"]}`, err: "The argument keyword must be plain text of at most 50 characters."},
		{name: "severity out of range", in: `{"keyword":"x","severity":7}`, err: "The argument severity must be one of 1, 2, 3, 4, 5, 6."},
		{name: "severity with a fraction", in: `{"keyword":"x","severity":3.5}`, err: "The argument severity must be one of 1, 2, 3, 4, 5, 6."},
		{name: "several severities", in: `{"keyword":"x","severity":"1,2"}`, err: "The argument severity must be one of 1, 2, 3, 4, 5, 6."},
		{name: "a number for a choice of letters", in: `{"keyword":"x","status":1}`, err: "The argument status must be one of O, F, T."},
		{name: "page zero", in: `{"keyword":"x","page_index":0}`, err: "The argument page_index must be a whole number from 1 to 100000."},
		{name: "a negative page", in: `{"keyword":"x","page_index":-1}`, err: "The argument page_index must be a whole number from 1 to 100000."},
		{name: "an absurd page", in: `{"keyword":"x","page_index":1e300}`, err: "The argument page_index must be a whole number from 1 to 100000."},
		{name: "a page that is a word", in: `{"keyword":"x","page_index":"two"}`, err: "The argument page_index must be a whole number from 1 to 100000."},
		{name: "true for a page", in: `{"keyword":"x","page_index":true}`, err: "The argument page_index must be a whole number from 1 to 100000."},
		{name: "a misspelled filter", in: `{"keyword":"x","severty":"3"}`, err: `There is no argument "severty" here; use keyword, page_index, status, severity, modified_date, sort_by.`},
		{name: "an array for all arguments", in: `[]`, err: "The arguments must be a JSON object."},
		{name: "something after the object", in: `{"keyword":"x"}]`, err: "The arguments must be one JSON object."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseArgs(searchParams, json.RawMessage(tc.in))
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v\nwant  %s", err, tc.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, tc.want) {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}

// FuzzParseArgs checks that whatever the parser lets through is what the declaration says, that what it refuses it
// refuses with a short sentence, and that it accepts all that the advertised schema accepts.
func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{
		``, `null`, `{}`, `[]`, `{"keyword":"x"}`, `{"keyword":"x","page_index":2,"severity":3,"status":"O"}`,
		`{"keyword":1}`, `{"keyword":"x","page_index":"9"}`, `{"keyword":"x"} {}`, `{"keyword":"\ud800"}`, `{"keyword":"x","zz":{}}`,
	} {
		f.Add([]byte(s))
	}
	resolved, err := inputSchema(searchParams).Resolve(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		args, err := parseArgs(searchParams, raw)
		var v map[string]any
		fits := json.Unmarshal(raw, &v) == nil && v != nil && resolved.Validate(v) == nil
		if err != nil {
			if _, ok := errors.AsType[usageError](err); !ok || len(err.Error()) > 400 {
				t.Errorf("unfit error %T %v", err, err)
			}
			// A schema cannot say "not blank" or "no control characters" without a pattern that clients would show.
			if k, _ := v["keyword"].(string); fits && strings.TrimSpace(k) != "" && !strings.ContainsFunc(k, unprintable) {
				t.Errorf("the schema accepts %s, the parser says %v", raw, err)
			}
			return
		}
		checkArgs(t, args)
		if _, err := bugTools[1].query(args); err != nil {
			t.Errorf("arguments %v make no query: %v", args, err)
		}
	})
}

func checkArgs(t *testing.T, args map[string]string) {
	t.Helper()
	for name, value := range args {
		i := slices.IndexFunc(searchParams, func(p param) bool { return p.name == name })
		if i < 0 {
			t.Fatalf("undeclared argument %q", name)
		}
		switch p := searchParams[i]; {
		case p.page:
			if n, err := strconv.Atoi(value); err != nil || n < 1 || n > maxPage {
				t.Errorf("page %q", value)
			}
		case p.choices != nil:
			if !slices.Contains(p.choices, value) {
				t.Errorf("%s %q", name, value)
			}
		default:
			if value == "" || utf8.RuneCountInString(value) > p.maxLen || strings.ContainsFunc(value, unprintable) {
				t.Errorf("%s %q", name, value)
			}
		}
	}
	for _, p := range searchParams {
		if (p.required || p.def != "") && args[p.name] == "" {
			t.Errorf("%s is missing in %v", p.name, args)
		}
	}
}

func TestGroups(t *testing.T) {
	for _, tc := range []struct {
		name, list string
		sample     bool
		want       groupSet
		err        string
	}{
		{name: "sample data serves everything by default", sample: true, want: groupSet{true, true}},
		{name: "Cisco's API serves the bug tools by default", want: groupSet{bug: true}},
		{name: "bug is the eight tools", list: "bug", sample: true, want: groupSet{bug: true}},
		{name: "case alone", list: "case", sample: true, want: groupSet{cases: true}},
		{name: "a list, in any case", list: "BUG, Case", sample: true, want: groupSet{true, true}},
		{name: "all is what there is", list: "all", want: groupSet{bug: true}},
		{name: "all of the sample data", list: "all", sample: true, want: groupSet{true, true}},
		{name: "case needs sample data", list: "case", err: `work on sample data only: use "bug", or unset CISCO_CLIENT_ID`},
		{name: "a group of other servers", list: "bug,psirt", sample: true, err: `the group of tools "psirt" is not part of this server: use bug, case or all`},
		{name: "an unknown group", list: "bugs", sample: true, err: `there is no group of tools "bugs": use bug, case or all`},
		{name: "an empty item", list: "bug,", sample: true, err: `there is no group of tools ""`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseGroups(tc.list, tc.sample)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

// FuzzIsInitialize feeds the look at the body that chooses a handler. It must not panic, and not miss an initialize
// in any JSON spelling.
func FuzzIsInitialize(f *testing.F) {
	for _, s := range []string{`{"method":"initialize"}`, `[{"method":"initialize"}]`, `{"method":1}`, `[[]]`, `null`, `{`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var m map[string]any
		isObject := json.Unmarshal(body, &m) == nil
		if got := isInitialize(body); got && !json.Valid(body) {
			t.Errorf("invalid JSON %q taken for initialize", body)
		} else if !got && isObject && len(m) == 1 && m["method"] == "initialize" {
			t.Errorf("missed initialize in %q", body)
		}
	})
}
