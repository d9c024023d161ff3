package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store"
)

// writeScript makes every change, so that record, index and notification are one
// step. It returns 1 when it is done, and 0 when the record is not the expected
// one.
//
// A record that already has the version that is to be written was written by
// this very call, whose script has come twice. That counts as done: to begin
// again would run the function of an Update on top of its own result. There is
// no such sign for a deletion, where an absent record may just as well mean that
// another node was first, so it is a conflict there. See once, which keeps the
// client from sending a script twice.
const writeScript = `
local record, index = KEYS[1], KEYS[2]
local expected = ARGV[1] -- a version, '' for an absent record, '*' for any
local new = ARGV[2]      -- the record as it is stored, '' for a deletion
local expiry = ARGV[3]   -- in Unix milliseconds, '0' for never
local name, channel = ARGV[4], ARGV[5]

local stored = redis.call('GETRANGE', record, 1, 16)
if expected ~= '*' and expected ~= stored then
  if stored ~= '' and stored == string.sub(new, 2, 17) then
    return 1
  end
  return 0
end

local changed = true
if new == '' then
  changed = redis.call('DEL', record) == 1
  redis.call('ZREM', index, name)
elseif expiry == '0' then
  redis.call('SET', record, new)
  redis.call('ZADD', index, '+inf', name)
else
  redis.call('SET', record, new, 'PXAT', expiry)
  redis.call('ZADD', index, expiry, name)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expired = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 16)
if #expired > 0 then
  redis.call('ZREM', index, unpack(expired))
end
local last = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', index)
elseif last then
  redis.call('PEXPIREAT', index, last)
end

if changed then
  redis.call('PUBLISH', channel, '')
end
return 1
`

// writeScriptHash is the name by which servers know the script.
var writeScriptHash = redis.NewScript(writeScript).Hash()

// anyVersion is the expected version of a write that does not care.
const anyVersion = "*"

// change is one run of the script.
type change struct {
	place
	expected string // version of the record that is replaced, or anyVersion
	record   []byte // empty for a deletion
	expiry   int64
}

func (c change) args(command, script string) []any {
	return []any{
		command, script, 2, c.place.record, c.index,
		c.expected, c.record, min(c.expiry, maxExpiry), c.name, c.channel,
	}
}

// newChange prepares a write of r, or a deletion when r holds no value.
func newChange(at place, expected string, r store.Record) change {
	c := change{place: at, expected: expected}
	if r.Exists() {
		c.record, c.expiry = encode(r), expiryOf(r)
	}
	return c
}

// apply makes a change and reports whether the record was the expected one.
func (s *Store) apply(ctx context.Context, c change) (bool, error) {
	opCtx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	n, err := s.run(opCtx, c.args("evalsha", writeScriptHash)...)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		// A server that has not seen the script, or has forgotten it, keeps it
		// from now on.
		n, err = s.run(opCtx, c.args("eval", writeScript)...)
	}
	return n == 1, s.failure(ctx, err)
}

// once is a command that the client of a cluster does not send again after an
// error of the network, when it may have been carried out. It still follows the
// cluster to another node, which has not done anything yet.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// run sends the command of a script and waits for the replicas, if asked to.
func (s *Store) run(ctx context.Context, args ...any) (int, error) {
	cmd := redis.NewCmd(ctx, args...)
	if s.waitReplicas == 0 {
		err := s.client.Process(ctx, once{cmd})
		if err != nil {
			return 0, err
		}
		return cmd.Int()
	}
	node, err := s.nodeOf(ctx, args[3].(string))
	if err != nil {
		return 0, err
	}
	// WAIT is about the writes of its own connection, and a pipeline has one.
	pipe := node.Pipeline()
	if err := pipe.Process(ctx, cmd); err != nil {
		return 0, err
	}
	confirmed := redis.NewIntCmd(ctx, "wait", s.waitReplicas, (s.timeout / 2).Milliseconds())
	if err := pipe.Process(ctx, confirmed); err != nil {
		return 0, err
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, err
	}
	if n := confirmed.Val(); n < int64(s.waitReplicas) {
		return 0, fmt.Errorf("%d of %d replicas have confirmed the write", n, s.waitReplicas)
	}
	return cmd.Int()
}

// nodeOf returns the client of the server that has a key.
func (s *Store) nodeOf(ctx context.Context, key string) (*redis.Client, error) {
	if s.cluster != nil {
		return s.cluster.MasterForKey(ctx, key)
	}
	return s.single, nil
}
