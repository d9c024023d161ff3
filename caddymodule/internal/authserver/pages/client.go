package pages

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Level says how much of what a client tells about itself is known to be true.
// The zero value is the most careful one.
type Level int

// The levels, from the least to the most trusted.
const (
	// UnconfirmedApp registered itself and returns to this computer or to a
	// private-use scheme, or is on a device: any program could be behind it.
	UnconfirmedApp Level = iota

	// UnconfirmedWebsite registered itself and returns to an https address.
	UnconfirmedWebsite

	// KnownWebsite is an UnconfirmedWebsite whose address the operator listed.
	// The address is trusted; the name is still the client's own claim.
	KnownWebsite

	// ConfirmedLocal is described by a client metadata document but returns to
	// this computer, or is on a device, so the host vouches for the name and
	// nobody for the program that is asking.
	ConfirmedLocal

	// Confirmed is described by a client metadata document and returns to an
	// https address of the same party.
	Confirmed

	// Configured is listed in the configuration of this server.
	Configured
)

// Client is the app that asks for access. The host that vouches for it and the
// place its answer goes to are derived from ID and Redirect, so that a page
// cannot name one address and use another. A client on a device has no address.
type Client struct {
	// Name is the client_name as received; the pages clean it with [CleanName].
	Name string

	// ID is the client_id. For Confirmed and ConfirmedLocal it is the https
	// URL of the metadata document, whose host is the one shown.
	ID string

	Level Level

	// Redirect is the redirect URI of this request, already validated.
	Redirect string

	// Device says that there is none, because the client is on a device that
	// asks for its access by itself. Then Level is UnconfirmedApp,
	// ConfirmedLocal or Configured.
	Device bool

	// RegisteredAt is when the client registered itself; zero hides the row.
	RegisteredAt time.Time
}

// ErrView is returned when a page is refused because what it should show
// contradicts itself or cannot be shown safely. Nothing has been written then.
var ErrView = errors.New("page refused")

// place is where the answer of a request goes.
type place struct {
	Kind placeKind
	Host string // with the port, unless it is the default one; empty for a scheme
	Port string // of this computer; may be empty
}

type placeKind string

const (
	website  placeKind = "website"
	computer placeKind = "computer"
	scheme   placeKind = "scheme" // Host holds "cursor:"
	device   placeKind = "device" // Host is empty
)

// deniedSchemes run script, read local content or wrap another address. The
// authorization server has its own policy; this list is the second fence.
var deniedSchemes = map[string]bool{
	"about": true, "blob": true, "chrome": true, "data": true, "file": true,
	"filesystem": true, "intent": true, "jar": true, "javascript": true,
	"livescript": true, "mhtml": true, "mocha": true, "resource": true,
	"vbscript": true, "view-source": true,
}

// parseRedirect returns the URI taken apart and the place it leads to, or
// ErrView when no page may link to it: https anywhere, http on this computer
// only, and private-use schemes that are not known to be dangerous.
func parseRedirect(uri string) (*url.URL, place, error) {
	if strings.ContainsFunc(uri, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("\\\"<>`{}", c) }) {
		return nil, place{}, fmt.Errorf("%w: the address holds characters that no URI may have", ErrView)
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		// The error of net/url quotes the whole address, which may hold a code.
		return nil, place{}, fmt.Errorf("%w: the address is not a URI", ErrView)
	case u.Scheme == "":
		return nil, place{}, fmt.Errorf("%w: the address has no scheme", ErrView)
	case deniedSchemes[u.Scheme]:
		return nil, place{}, fmt.Errorf("%w: %s: addresses are never linked", ErrView, u.Scheme)
	case u.User != nil:
		return nil, place{}, fmt.Errorf("%w: the address names a user", ErrView)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return u, place{Kind: scheme, Host: u.Scheme + ":"}, nil
	}
	to, err := placeOfHost(u)
	return u, to, err
}

// placeOfHost tells this computer and websites apart.
func placeOfHost(u *url.URL) (place, error) {
	host := u.Hostname()
	// net/url decodes percent signs in hosts, so look-alike letters are looked
	// for here and not in the URI. Hosts are shown as they go over the wire.
	if host == "" || strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return place{}, fmt.Errorf("%w: the host of the address is not plain ASCII", ErrView)
	}
	if isThisComputer(host) {
		return place{Kind: computer, Host: hostLabel(host), Port: u.Port()}, nil
	}
	if u.Scheme != "https" {
		return place{}, fmt.Errorf("%w: the address is not https", ErrView)
	}
	label := hostLabel(host)
	if p := u.Port(); p != "" && p != "443" {
		label += ":" + p
	}
	return place{Kind: website, Host: label}, nil
}

func hostLabel(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return strings.ToLower(host)
}

func isThisComputer(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// clientView is a client made ready for the templates.
type clientView struct {
	Client
	Name     string // cleaned; empty when the client gave none
	Quoted   bool   // the name is the client's own claim
	Initials string
	Vouch    string // host that the identity line names
	To       place
	Look     look
}

// look is how a level appears on a page: as one line with an icon, or as a
// note with a title. Messages are "level.<Key>…" and "login.<Key>".
type look struct {
	Key  string
	Icon string // of the line; empty for a note
	Note string // class of the note; empty for a line
	Mark string // class of the monogram
}

var looks = map[Level]look{
	Configured:         {Key: "configured", Icon: "server", Mark: "app"},
	Confirmed:          {Key: "confirmed", Icon: "shield", Mark: "app"},
	ConfirmedLocal:     {Key: "local", Note: "calm", Mark: "app"},
	KnownWebsite:       {Key: "known", Icon: "globe", Mark: "known"},
	UnconfirmedWebsite: {Key: "website", Note: "warn", Mark: "unknown"},
	UnconfirmedApp:     {Key: "app", Note: "warn", Mark: "unknown"},
}

// deviceLooks take the place of looks that speak of this computer.
var deviceLooks = map[Level]look{
	ConfirmedLocal: {Key: "named", Note: "calm", Mark: "app"},
	UnconfirmedApp: {Key: "device", Note: "warn", Mark: "unknown"},
}

// Decide is the path that takes the answer about the client.
func (c *clientView) Decide() string {
	if c.Device {
		return PathDevice
	}
	return PathAuthorize
}

// place is where the access goes.
func (c Client) place() (place, error) {
	if !c.Device {
		_, to, err := parseRedirect(c.Redirect)
		return to, err
	}
	if c.Redirect != "" {
		return place{}, fmt.Errorf("%w: a client on a device has an address", ErrView)
	}
	return place{Kind: device}, nil
}

// newClientView derives what is shown from a client. It refuses a level that
// does not fit the redirect URI: a shield on a page that hands the access to
// some program on this computer would be a lie.
func newClientView(c Client) (*clientView, error) {
	l, ok := looks[c.Level]
	if !ok {
		return nil, fmt.Errorf("%w: unknown level of identity %d", ErrView, c.Level)
	}
	to, err := c.place()
	if err != nil {
		return nil, fmt.Errorf("redirect URI: %w", err)
	}
	if d, ok := deviceLooks[c.Level]; ok && c.Device {
		l = d
	}
	v := &clientView{Client: c, Name: CleanName(c.Name), To: to, Look: l}
	switch c.Level {
	case Confirmed, ConfirmedLocal:
		_, doc, err := parseRedirect(c.ID)
		if err == nil && doc.Kind == scheme {
			err = fmt.Errorf("%w: not a web address", ErrView)
		}
		if err != nil {
			return nil, fmt.Errorf("client ID: %w", err)
		}
		v.Vouch = doc.Host
	case KnownWebsite, UnconfirmedWebsite:
		v.Vouch = to.Host
	case UnconfirmedApp, Configured: // no host stands for them
	}
	if c.Level != Configured && (to.Kind == website) != levelOfWebsite(c.Level) {
		return nil, fmt.Errorf("%w: level %q does not fit a redirect to a %s", ErrView, l.Key, to.Kind)
	}
	v.Quoted = c.Level <= KnownWebsite && v.Name != ""
	v.Initials = "?"
	if c.Level > UnconfirmedWebsite {
		v.Initials = initials(v.Name)
	}
	return v, nil
}

func levelOfWebsite(l Level) bool {
	return l == Confirmed || l == KnownWebsite || l == UnconfirmedWebsite
}
