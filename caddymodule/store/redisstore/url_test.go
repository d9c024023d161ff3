package redisstore

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for raw, want := range map[string]address{
		"redis://localhost":                   {addrs: []string{"localhost:6379"}},
		"rediss://Redis.example:7000/15":      {tls: true, addrs: []string{"redis.example:7000"}, db: 15},
		"redis://:s%40cret@10.0.0.1/":         {password: "s@cret", addrs: []string{"10.0.0.1:6379"}},
		"redis://us%3Aer:a:b@h":               {username: "us:er", password: "a:b", addrs: []string{"h:6379"}},
		"redis://a,b:1,[2001:DB8::1],[::1]:2": {addrs: []string{"a:6379", "b:1", "[2001:db8::1]:6379", "[::1]:2"}},
	} {
		got, err := parseURL(raw, "6379")
		if err != nil || !slices.Equal(got.addrs, want.addrs) || got.tls != want.tls || got.db != want.db ||
			got.username != want.username || got.password != want.password {
			t.Errorf("%s: got %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

func TestWrongURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"":                             "begins with",
		"localhost:6379":               "begins with",
		"http://:secret@h":             "begins with",
		"redis://":                     "host 1 in the Redis URL is empty",
		"redis://a,,b":                 "host 2 in the Redis URL is empty",
		"redis://h:0":                  "port",
		"redis://h:65536":              "port",
		"redis://h:secret":             "port",
		"redis://::1":                  "brackets",
		"redis://[::1":                 "brackets",
		"redis://[127.0.0.1]":          "brackets",
		"redis://h/secret":             "number of the database",
		"redis://h/1/2":                "number of the database",
		"redis://h/-1":                 "number of the database",
		"redis://h/01":                 "number of the database",
		"redis://h?db=1":               "option of its own",
		"redis://secret@h":             "user:password@",
		"redis://user:@h":              "user:password@",
		"redis://:sec/ret@h":           "percent-encoded",
		"redis://:sec@ret@h":           "percent-encoded",
		"redis://:secret%2@h":          "%25",
		"redis://user name:secret@h i": "neither a host name",
	} {
		_, err := parseURL(raw, "6379")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want an error with %q and no secret", raw, err, want)
		}
	}
}

func FuzzURL(f *testing.F) {
	f.Add("redis://user:pass%40word@host:1,[::1]:2/3")
	f.Add("rediss://:p@h")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseURL(raw, "6379")
		if err != nil {
			return
		}
		for _, addr := range a.addrs {
			host, port, err := net.SplitHostPort(addr)
			if err != nil || host == "" || port == "" {
				t.Fatalf("the address %q: %v", addr, err)
			}
		}
		if len(a.addrs) == 0 || a.db < 0 || a.username != "" && a.password == "" {
			t.Fatalf("got %+v", a)
		}
		again, err := parseURL("redis://"+strings.Join(a.addrs, ","), "1")
		if err != nil || !slices.Equal(again.addrs, a.addrs) {
			t.Fatalf("%q is read again as %q, %v", a.addrs, again.addrs, err)
		}
	})
}
