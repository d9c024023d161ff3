package redisstore

import (
	"strings"
	"testing"
)

func TestSettingsThatLoseRecordsAreWarnedOf(t *testing.T) {
	for _, tt := range []struct {
		rule      string
		info      string
		snapshots bool
		wait      int
		want      string // "" for no warning
	}{
		{"nothing is told", "", true, 0, ""},
		{"all is well", "maxmemory_policy:noeviction\r\naof_enabled:1\r\nconnected_slaves:1", false, 1, ""},
		{"records are evicted", "maxmemory_policy:volatile-lru", true, 0, "set maxmemory-policy noeviction"},
		{"nothing is on disk", "aof_enabled:0", false, 0, "set appendonly yes"},
		{"snapshots are something", "aof_enabled:0", true, 0, ""},
		{"too few replicas", "connected_slaves:1", true, 2, "writes that wait for 2 will fail"},
		{"too many replicas", "connected_slaves:2", true, 1, "a failover can still lose some"},
		{"replicas that nobody waits for", "connected_slaves:2", true, 0, ""},
	} {
		got := warningsOf(parseInfo(tt.info), tt.snapshots, "10.0.0.1:6379", settings{Config: Config{WaitReplicas: tt.wait}})
		if (len(got) > 0) != (tt.want != "") || !strings.Contains(strings.Join(got, "\n"), tt.want) {
			t.Errorf("%s: got %q, want %q", tt.rule, got, tt.want)
		}
	}
}
