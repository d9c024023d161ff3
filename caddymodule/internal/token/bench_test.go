package token

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/internal/oauth"
	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/memstore"
)

func benchVerifier(b *testing.B) (*Verifier, string) {
	b.Helper()
	s := memstore.New(0)
	keys, err := OpenKeys(b.Context(), s, "test/", KeysConfig{})
	if err != nil {
		b.Fatal(err)
	}
	revocations, err := OpenRevocations(b.Context(), s, "test/", zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	raw, err := keys.Mint(oauth.AccessTokenClaims{
		Issuer: "https://mcp.example.com", Subject: "alice", Audience: "https://mcp.example.com/mcp",
		ClientID: "mcp_ABCDEFGHIJKLMNOPQRSTUVWXYZ", Scope: "mcp", GrantID: strings.Repeat("0123456", 6),
		Email: "alice@example.com", Name: "Alice Example",
	}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	return NewVerifier("https://mcp.example.com", keys, revocations, nil), raw
}

// The goal is 500 ns and no allocation. To go through all of the tokens is the
// worst case: what is looked at lies all over the memory and is never at hand.
func BenchmarkVerifyCached(b *testing.B) {
	for _, bc := range []struct{ cached, used int }{{1, 1}, {CacheEntries, 1}, {CacheEntries, CacheEntries}} {
		b.Run(fmt.Sprintf("cached=%d/used=%d", bc.cached, bc.used), func(b *testing.B) {
			v, raw := benchVerifier(b)
			token, err := v.verify(b.Context(), raw)
			if err != nil {
				b.Fatal(err)
			}
			// What is in the cache needs no signature of its own.
			for i := range bc.cached {
				v.cache.Set(numbered(raw, i), token, time.Hour)
			}
			ctx := b.Context()
			b.ReportAllocs()
			// The presented token is made in place, as the processor has just
			// read the header of the request.
			presented := []byte(raw)
			for i := 0; b.Loop(); i = (i + stride) % bc.used {
				number(presented, i)
				if _, err := v.Verify(ctx, unsafe.String(&presented[0], len(presented))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// stride has no factor in common with the number of tokens, so it leads through
// all of them, in an order that the processor cannot foresee.
const stride = 40503

// numbered is a token of the length of raw that differs from all others.
func numbered(raw string, i int) string {
	token := []byte(raw)
	number(token, i)
	return string(token)
}

func number(token []byte, i int) {
	for at := len(token) - 1; at >= len(token)-8; at-- {
		token[at] = byte('0' + i%10)
		i /= 10
	}
}

// The goal is 110 µs.
func BenchmarkVerifyUncached(b *testing.B) {
	v, raw := benchVerifier(b)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.verify(ctx, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	v, _ := benchVerifier(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.keys.Mint(oauth.AccessTokenClaims{Issuer: v.issuer, Subject: "alice"}, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
