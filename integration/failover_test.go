package integration

import (
	"strings"
	"testing"

	"github.com/caddy-mcp-auth/caddy-mcp-auth/caddymodule/store/redisstore/redistest"
)

// TestSentinelFailover issues, renews and revokes grants while another Redis server becomes the master: because an
// operator wants it so, or because the first one has crashed. Writes wait for all replicas, so nothing that was
// acknowledged is lost on the way. It would be otherwise with fewer: a replica that still follows the old master when
// another one has already been chosen confirms what will be gone.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Sentinel){
		"wanted": (*redistest.Sentinel).Failover,
		"crash":  func(s *redistest.Sentinel) { s.Servers[0].Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t, 2)
			rec := startRecorder(t)
			config := func(more string) gatewayConfig {
				return redisConfig(rec.address, "redis://"+s.Addrs()+" {\nsentinel "+redistest.MasterName+"\n"+more+"\n}\nrefresh_token_grace 10m")
			}
			g := startGateway(t, config("wait_replicas 2"))
			gr := g.newGrant(t, nil)
			roundTrip(t, gr)
			issueAndKill(t, g, 1, func() {
				fail(s)
				awaitMasterOtherThan(t, s, s.Servers[0])
				// The old master needs some time to become a replica, and until then no write is confirmed by two.
				g.write(g.caddyfile(config("")))
				g.restart(false)
			}, true)
			roundTrip(t, gr)
		})
	}
}

// TestGatewayFollowsMaster changes the master below a running gateway.
func TestGatewayFollowsMaster(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, 1)
	g := startGateway(t, redisConfig(startRecorder(t).address, "redis://"+s.Addrs()+" {\nsentinel "+redistest.MasterName+"\n}"))
	gr := g.newGrant(t, nil)
	s.Failover()
	awaitMasterOtherThan(t, s, s.Servers[0])
	inARow := 0
	eventually(t, "the gateway has found the new master, and its connections to the old one are gone", func() bool {
		inARow++
		if a := g.refresh(t, gr.clientID, gr.refresh); a.status >= 500 {
			wantUnavailable(t, "refreshing", a)
			inARow = 0
		}
		return inARow == 10
	})
	roundTrip(t, g.newGrant(t, nil))
}

// awaitMasterOtherThan waits until all sentinels agree on another master.
func awaitMasterOtherThan(t *testing.T, s *redistest.Sentinel, old *redistest.Server) {
	t.Helper()
	for _, sentinel := range s.Sentinels {
		eventually(t, "the sentinels agree on another master", func() bool {
			master := sentinel.Command("sentinel", "get-master-addr-by-name", redistest.MasterName)
			return !strings.HasSuffix(master, old.Port())
		})
	}
}
