package checkup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// names looks the host up.
func (c *checkup) names(ctx context.Context) bool {
	const name = "DNS"
	host := c.target.Hostname()
	if net.ParseIP(host) != nil {
		return c.good(name, "%s is an address", host)
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil || len(addresses) == 0 {
		return c.problem(name, "Add an A or AAAA record for "+host+" that leads to this server.", "%s has no address", host)
	}
	return c.good(name, "%s → %s", host, strings.Join(addresses, ", "))
}

// certificate connects and looks at the certificate.
func (c *checkup) certificate(ctx context.Context) bool {
	const name = "TLS"
	if c.target.Scheme == "http" {
		return c.good(name, "none, on this computer only")
	}
	port := c.target.Port()
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	d := tls.Dialer{Config: c.tlsConfig()}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.target.Hostname(), port))
	if err != nil {
		return c.badCertificate(name, port, err)
	}
	defer conn.Close()
	cert := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	left := time.Until(cert.NotAfter)
	// Caddy renews when a third is left.
	if left < cert.NotAfter.Sub(cert.NotBefore)/5 {
		c.warn(name, "See in Caddy's log why it was not renewed.", "the certificate expires in %s", inWords(left))
		return true
	}
	who := "publicly trusted"
	if c.opts.Roots != nil {
		who = "trusted"
	}
	return c.good(name, "%s, expires in %s", who, inWords(left))
}

// inWords is a time in the unit that people would use.
func inWords(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func (c *checkup) badCertificate(name, port string, err error) bool {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return c.problem(name, "Use a name that the internet can reach, so that Caddy gets a public certificate; or name the authority: "+
			"--ca <Caddy's data directory>/pki/authorities/local/root.crt, which every client then has to trust too.",
			"the certificate is signed by an authority that clients do not know")
	case errors.As(err, &hostname):
		return c.problem(name, "Write the site's address as "+c.target.Host+" in the Caddyfile.", "the certificate is for other names")
	case errors.As(err, &invalid):
		return c.problem(name, "See in Caddy's log why it was not renewed.", "%v", err)
	}
	return c.problem(name, "Is Caddy running, and does a firewall let port "+port+" through?", "%v", err)
}
