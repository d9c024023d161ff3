package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadme wants the README to name only what exists, and to have a test for each requirement, quirk and pain.
func TestReadme(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	sources := testSources(t)
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/[^`]*)?`").FindAllStringSubmatch(readme, -1) {
		if !strings.Contains(sources, "\nfunc "+name[1]+"(t *testing.T)") {
			t.Errorf("there is no test %s", name[1])
		}
	}
	for _, path := range regexp.MustCompile("`((?:caddymodule|mcpbackend)/[^`]+)`").FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("..", path[1])); err != nil {
			t.Error(err)
		}
	}

	// The rows of the lists, in both directions.
	rows := regexp.MustCompile(`\n\t\t\{"((?:S\d\d|\d\d|also|[a-z]+\d?)_[a-z0-9_]+)", [a-zA-Z0-9]+\},`).FindAllStringSubmatch(sources, -1)
	if len(rows) < 60 {
		t.Errorf("only %d rows have been found", len(rows))
	}
	var named []string
	for _, name := range regexp.MustCompile("`Test(?:Quirks|Pains|Faults)/([^`]+)`").FindAllStringSubmatch(readme, -1) {
		named = append(named, name[1])
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[1] == name[1] }) {
			t.Errorf("there is no row %s", name[1])
		}
	}
	for _, row := range rows {
		if !slices.Contains(named, row[1]) {
			t.Errorf("the row %s is not named", row[1])
		}
	}

	covered := coveredIDs(t, readme)
	for prefix, last := range map[string]int{"A": 38, "R": 15, "S": 25, "": 20} {
		for n := 1; n <= last; n++ {
			if id := fmt.Sprintf("%s%d", prefix, n); !slices.Contains(covered, id) {
				t.Errorf("no line is about %s", id)
			}
		}
	}
}

// coveredIDs are the ids in the first column of a table whose last column names a test.
func coveredIDs(t *testing.T, readme string) (out []string) {
	t.Helper()
	for line := range strings.Lines(readme) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) < 2 || !regexp.MustCompile("`(Test[A-Z]|caddymodule/)").MatchString(cells[len(cells)-1]) {
			continue
		}
		for id := range strings.SplitSeq(strings.TrimSpace(cells[0]), ", ") {
			out = append(out, id)
		}
	}
	return out
}

// testSources are all tests of the module in one.
func testSources(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == ".cache"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		data, err := os.ReadFile(path)
		out.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
