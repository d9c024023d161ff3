// Package redisstore keeps the state in Redis or Valkey, for several nodes that
// share it. It works with a single server, with Sentinel and with Redis
// Cluster, and needs Redis 6.2, Valkey 7.2 or later.
//
// # What is stored where
//
// A key is split at its last slash into a folder and a name. With the key
// prefix "mcp_auth" that makes
//
//	mcp_auth:r:{/folder/}name   the record: see record.go for its layout
//	mcp_auth:i:{/folder/}       the index of the folder, a sorted set:
//	                            name → expiry in Unix milliseconds, +inf for never
//	mcp_auth:w:folder/name      the channel on which changes of the key are told
//	mcp_auth:b:…                channels by which a watch proves that it hears
//
// The braces make a folder and its index live on the same node of a cluster, so
// that one script changes both in one step. They also mean that a folder does
// not spread over several nodes.
//
// Redis removes expired records by itself. Each write clears up to sixteen
// names out of the index of its folder whose time has come, and lets the index
// itself expire with the last of its records, so that nothing is left behind
// and nobody has to sweep.
//
// # What is promised
//
// A write is one script, which Redis runs as a whole or not at all, and which
// is sent at most once. Update reads the record, runs its function, and writes
// only if the record still is the one that was read, which a random version in
// each record tells; otherwise it reads again. When the answer to a write is
// lost, the caller gets an error and the write may be there or not, as the
// contract allows.
//
// What is acknowledged survives the end of a server as far as the server itself
// promises that: set appendonly yes with appendfsync always for the promise
// that the file store makes. Replication is asynchronous, so a failover can
// lose the last writes and with them a revocation, unless Config.WaitReplicas
// asks that all replicas have them before the write is acknowledged. A master that
// has been cut off from its replicas answers reads with what it last knew until
// the client learns of the new master; min-replicas-to-write keeps it from
// taking writes meanwhile.
//
// With maxmemory, the policy has to be noeviction. Any other one makes Redis
// forget records, revocations among them, when memory is short. Store.Warnings
// tells of that.
//
// # Rights
//
// With access control lists, the user of this package needs
//
//	~mcp_auth:* allchannels +get +eval +evalsha +getrange +set +del +zadd +zrem
//	+zrangebyscore +zrevrange +persist +pexpireat +time +publish +psubscribe
//	+scan +zscan +wait +ping +hello +auth +select +role +info +config|get
//	+cluster|slots
//
// of which role, info and config are for checks that are left out when they are
// forbidden, wait is for Config.WaitReplicas and cluster for clusters. It needs
// all channels because Redis allows a pattern to nobody else, unless that very
// pattern is in the list.
package redisstore
