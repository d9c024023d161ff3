package transfer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/transfer"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/storetest"
)

func TestWhatIsExportedComesBackInAnyStore(t *testing.T) {
	for from, openFrom := range backends {
		for to, openTo := range backends {
			t.Run(from+" to "+to, func(t *testing.T) {
				source, target := openFrom(t), openTo(t)
				filled(t, source, nil)
				var file bytes.Buffer
				sum, err := transfer.Export(t.Context(), source, &file)
				if err != nil || sum != filledWith {
					t.Fatalf("exported %+v with the error %v, want %+v", sum, err, filledWith)
				}
				if got, err := transfer.Inspect(bytes.NewReader(file.Bytes())); err != nil || got != filledWith {
					t.Errorf("the file has %+v with the error %v", got, err)
				}
				if got, err := importInto(t, target, file.Bytes(), false); err != nil || got != filledWith {
					t.Errorf("imported %+v with the error %v", got, err)
				}
				if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
					t.Errorf("the target differs (-source +target):\n%s", diff)
				}
				report, err := checker.Check(t.Context(), target)
				if err != nil || report.Summary != filledWith || len(report.Findings) != 0 {
					t.Errorf("the check finds %+v with the error %v", report, err)
				}
			})
		}
	}
}

// Many records are written in several batches.
func TestALargeStoreComesBack(t *testing.T) {
	source, target := memstore.New(0), backends["filestore"](t)
	filled(t, source, nil)
	for i := range 2000 {
		key := fmt.Sprintf("%ssession/%s/%s", issuer, strings.Repeat("b", 16), sessionHash(i))
		must(t, source.Put(t.Context(), key, store.Record{
			Value: []byte(`{"v":1,"user":{"sub":"bob","idp":"local"},"since":"2026-01-02T03:04:05Z"}`),
		}))
	}
	if _, err := importInto(t, target, export(t, source), false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
		t.Error(diff)
	}
}

func sessionHash(i int) string {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return strings.ToLower(base32(sum[:]))
}

func TestAStoreThatIsNotEmptyIsLeftAloneUnlessToldOtherwise(t *testing.T) {
	source, target := memstore.New(0), memstore.New(0)
	st := filled(t, source, nil)
	file := export(t, source)
	other := issuer + "session/" + strings.Repeat("b", 16) + "/" + sessionHash(1)
	must(t, target.Put(t.Context(), other, store.Record{Value: []byte("other")}))
	must(t, target.Put(t.Context(), st.session, store.Record{Value: []byte("before")}))
	before := contents(t, target)

	if _, err := importInto(t, target, file, false); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
	if diff := cmp.Diff(before, contents(t, target)); diff != "" {
		t.Errorf("the store has changed:\n%s", diff)
	}
	if _, err := importInto(t, target, file, true); err != nil {
		t.Fatal(err)
	}
	want := contents(t, source)
	want[other] = before[other]
	if diff := cmp.Diff(want, contents(t, target)); diff != "" {
		t.Errorf("after overwriting (-want +got):\n%s", diff)
	}
}

func TestWhatHasExpiredIsLeftOut(t *testing.T) {
	source, target := memstore.New(0), memstore.New(0)
	filled(t, source, nil)
	file := file(t, append(lines(export(t, source)),
		`{"key":"`+issuer+`client/gone","expires":1,"value":"anything at all"}`,
		fmt.Sprintf(`{"key":"%sclient/going","expires":%d,"value":""}`, issuer, time.Now().Add(time.Second).UnixMilli()))...)
	want := filledWith
	want.Expired = 2
	// The value of the first is no base64, which is noticed all the same.
	if _, err := importInto(t, target, file, false); err == nil {
		t.Fatal("a line that cannot be read is accepted")
	}
	file = bytes.ReplaceAll(file, []byte("anything at all"), nil)
	if got, err := importInto(t, target, resummed(t, file), false); err != nil || got != want {
		t.Errorf("imported %+v with the error %v, want %+v", got, err, want)
	}
	if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
		t.Error(diff)
	}
}

// A store may yield a key again; of two lines the later one counts.
func TestOfTwoLinesWithOneKeyTheLaterCounts(t *testing.T) {
	source, target := memstore.New(0), memstore.New(0)
	st := filled(t, source, nil)
	want := contents(t, source)
	text := lines(export(t, source))
	i := slices.IndexFunc(text, func(l string) bool { return strings.Contains(l, st.session) })
	older := `{"key":"` + st.session + `","value":"` + base64.StdEncoding.EncodeToString(
		[]byte(`{"v":1,"user":{"sub":"older","idp":"local"},"since":"2026-01-02T03:04:05Z"}`)) + `"}`
	if _, err := importInto(t, target, file(t, slices.Insert(text, i, older)...), false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, target)); diff != "" {
		t.Error(diff)
	}
}

// lines are those of a file without the last one.
func lines(file []byte) []string {
	all := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	return all[:len(all)-1]
}

// file puts the last line behind the others.
func file(t testing.TB, text ...string) []byte {
	t.Helper()
	body := strings.Join(text, "\n") + "\n"
	sum := sha256.Sum256([]byte(body))
	return fmt.Appendf(nil, "%s{\"records\":%d,\"sha256\":%q}\n", body, len(text)-1, base64.StdEncoding.EncodeToString(sum[:]))
}

func resummed(t testing.TB, data []byte) []byte { return file(t, lines(data)...) }

func TestFilesThatAreNotAsTheyWereWrittenChangeNothing(t *testing.T) {
	source := memstore.New(0)
	st := filled(t, source, nil)
	good := export(t, source)
	text := lines(good)
	replaced := func(old, replacement string) []byte {
		if !strings.Contains(string(good), old) {
			t.Fatalf("there is no %q in the file", old)
		}
		return bytes.Replace(good, []byte(old), []byte(replacement), 1)
	}
	with := func(line string) []byte { return file(t, append(slices.Clone(text), line)...) }
	for rule, tt := range map[string]struct {
		file []byte
		want string
	}{
		"empty":              {nil, "line 1: this is no export"},
		"another file":       {[]byte("{\"apps\":{}}\n"), "line 1: this is no export"},
		"a binary file":      {bytes.Repeat([]byte{0xff}, 1<<20), "line 1: this is no export"},
		"one very long line": {bytes.Repeat([]byte("a"), 1<<20), "the line is too long"},
		"a newer format":     {replaced(`"version":1`, `"version":2`), "line 1: a newer version of this program has written the file"},
		"a long record":      {with(`{"key":"` + issuer + `client/x","value":"` + strings.Repeat("A", 90<<10) + `"}`), "line 13: the line is too long"},
		"a key too long":     {with(`{"key":"` + strings.Repeat("k", 513) + `","value":""}`), "line 13: key is too long"},
		"a key with a space": {with(`{"key":"a b","value":""}`), "line 13: key has a byte"},
		"no value":           {with(`{"key":"a"}`), "line 13: record without a value"},
		"an unknown field":   {with(`{"key":"a","value":"","more":1}`), "line 13: the line is no record of an export"},
		"two in one line":    {with(`{"key":"a","value":""}{}`), "line 13: the line is no record of an export"},
		"an odd expiry":      {with(`{"key":"a","value":"","expires":-1}`), "line 13: the expiry is out of range"},
		"junk":               {with(`secret junk`), "line 13: the line is no record of an export"},
		"a byte changed":     {replaced(st.session, st.session[:len(st.session)-1]+"b"), "its checksum is another one"},
		"a line missing":     {replaced(text[3]+"\n", ""), "its checksum is another one"},
		"another line end":   {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), "its checksum is another one"},
		"something behind":   {append(slices.Clone(good), "{}\n"...), "line 14: there is something behind"},
		"an unknown kind":    {with(`{"key":"` + issuer + `token/x","value":""}`), "line 13: " + issuer + "token/x: the key is of no known kind"},
		"a foreign key":      {with(`{"key":"session:1","value":""}`), "line 13: session:1: the key is of no known kind"},
		"a record that is damaged": {
			with(`{"key":"` + st.session + `","value":"` + base64.StdEncoding.EncodeToString([]byte(`{"v":1`)) + `"}`),
			"line 13: " + st.session + ": stored session cannot be read",
		},
		"no signing keys": {
			file(t, slices.DeleteFunc(slices.Clone(text), func(l string) bool { return strings.Contains(l, issuer+"keys") })...),
			"the issuer " + issuer[:16] + " has records and no signing keys",
		},
	} {
		t.Run(rule, func(t *testing.T) {
			target := memstore.New(0)
			must(t, target.Put(t.Context(), "before", store.Record{Value: []byte("1")}))
			_, err := importInto(t, target, tt.file, true)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret junk") {
				t.Error("the error repeats what is in the file")
			}
			if got := contents(t, target); len(got) != 1 {
				t.Errorf("the store holds %v", got)
			}
		})
	}
}

// Wherever a file ends too early, it is noticed.
func TestAFileThatWasCutChangesNothing(t *testing.T) {
	source, target := memstore.New(0), memstore.New(0)
	filled(t, source, nil)
	good := export(t, source)
	for n := range len(good) - 1 { // the last line does without its end
		_, err := importInto(t, target, good[:n], false)
		first := bytes.IndexByte(good, '\n')
		if n > first && !errors.Is(err, transfer.ErrCut) || err == nil {
			t.Fatalf("cut to %d of %d bytes: got %v", n, len(good), err)
		}
	}
	if got := contents(t, target); len(got) != 0 {
		t.Errorf("the store holds %v", got)
	}
	if _, err := importInto(t, target, good[:len(good)-1], false); err != nil {
		t.Errorf("without the end of the last line: %v", err)
	}
}

func TestAnImportNeedsAFile(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = transfer.Import(t.Context(), memstore.New(0), r, transfer.Options{Checker: checker})
	if err == nil || !strings.Contains(err.Error(), "needs a file and no pipe") {
		t.Errorf("got %v", err)
	}
}

func TestSealedKeysStaySealed(t *testing.T) {
	box := newBox(t)
	source, target := memstore.New(0), memstore.New(0)
	filled(t, source, box)
	data := export(t, source)
	if got, err := transfer.Inspect(bytes.NewReader(data)); err != nil || got.Unsealed != 0 {
		t.Errorf("the file has %+v with the error %v", got, err)
	}
	if _, err := importInto(t, target, data, false); err == nil || !strings.Contains(err.Error(), "there is no encryption_key") {
		t.Errorf("without the key: got %v", err)
	}
	with := checker
	with.Box = newBox(t)
	options := transfer.Options{Checker: with}
	if _, err := transfer.Import(t.Context(), target, bytes.NewReader(data), options); err == nil ||
		!strings.Contains(err.Error(), "sealed with another encryption_key") {
		t.Errorf("with another key: got %v", err)
	}
	if len(contents(t, target)) != 0 {
		t.Error("something was written")
	}
	options.Checker.Box = box
	if _, err := transfer.Import(t.Context(), target, bytes.NewReader(data), options); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
		t.Error(diff)
	}
}

func TestAnExportThatFailsSaysSo(t *testing.T) {
	storetest.FailEachCall(t, func(t *testing.T) store.Store { return memstore.New(0) }, func(t *testing.T, f *storetest.Faulty) {
		filled(t, f.Inner(), nil)
		var file bytes.Buffer
		_, err := transfer.Export(t.Context(), f, &file)
		if (err == nil) != (f.Injected() == 0) {
			t.Errorf("got %v after %d faults", err, f.Injected())
		}
		if _, err := transfer.Inspect(&file); (err == nil) != (f.Injected() == 0) {
			t.Errorf("the file is read with the error %v after %d faults", err, f.Injected())
		}
	})
	full := io.Writer(failingWriter{})
	s := memstore.New(0)
	filled(t, s, nil)
	if _, err := transfer.Export(t.Context(), s, full); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the error of the writer", err)
	}
}

var errFull = errors.New("disk is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestAnImportThatFailsIsCompletedByAnother(t *testing.T) {
	source := memstore.New(0)
	filled(t, source, nil)
	data, want := export(t, source), contents(t, source)
	storetest.FailEachCall(t, func(t *testing.T) store.Store { return memstore.New(0) }, func(t *testing.T, f *storetest.Faulty) {
		_, err := importInto(t, f, data, false)
		if (err == nil) != (f.Injected() == 0) {
			t.Errorf("got %v after %d faults", err, f.Injected())
		}
		for key, value := range contents(t, f.Inner()) {
			if want[key] != value {
				t.Errorf("%s is %q, want %q", key, value, want[key])
			}
		}
		if _, err := importInto(t, f.Inner(), data, true); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(t, f.Inner())); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzFile(f *testing.F) {
	source := memstore.New(0)
	filled(f, source, nil)
	f.Add(export(f, source))
	f.Add([]byte("{\"format\":\"mcp_auth state\",\"version\":1,\"created\":\"2026-01-02T03:04:05Z\"}\n{\"key\":\"a\",\"value\":\"\"}\n"))
	f.Add(file(f, `{"format":"mcp_auth state","version":1,"created":"2026-01-02T03:04:05Z"}`, `{"key":"a","expires":1,"value":"AA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, append(bytes.TrimSuffix(data, []byte("\n")), '\n'), resummed(t, append(data, "\n\n"...))} {
			s := memstore.New(0)
			_, err := importInto(t, s, data, false)
			sum, inspectErr := transfer.Inspect(bytes.NewReader(data))
			if err == nil && inspectErr != nil {
				t.Errorf("imported although %v", inspectErr)
			}
			got := contents(t, s)
			if err != nil && len(got) != 0 {
				t.Errorf("refused with %v, and yet wrote %v", err, slices.Collect(maps.Keys(got)))
			}
			if len(got) > sum.Records {
				t.Errorf("wrote %d of %d records", len(got), sum.Records)
			}
		}
	})
}
