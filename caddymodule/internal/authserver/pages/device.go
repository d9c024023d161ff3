package pages

import (
	"net/http"
	"time"
)

// DeviceFailure is why the page for the code of a device is shown again.
type DeviceFailure string

// The reasons. The page never says whether a code was right once.
const (
	NoDeviceFailure  DeviceFailure = ""
	UnknownUserCode  DeviceFailure = "unknown"
	TooManyUserCodes DeviceFailure = "pause" // Wait says for how long
)

// Device is the page on which people enter the code that their device shows (RFC
// 8628 section 3.3).
type Device struct {
	Code    string // what is filled in
	Compare bool   // the code came along, and has to be compared with the device's

	Failure DeviceFailure
	Wait    time.Duration // after TooManyUserCodes

	Token   string // see Consent.Token
	Locales string // see Consent.Locales
}

type deviceBody struct {
	Device
	Server serverView
}

// Invalid reports whether the code is what is wrong.
func (b deviceBody) Invalid() bool { return b.Failure == UnknownUserCode }

// Lifetime is how long codes are good for.
func (b deviceBody) Lifetime() time.Duration { return RequestLifetime }

// maxUserCode bounds what is shown of a code that was typed.
const maxUserCode = 32

// Device writes the page for the code. Its form posts FieldToken and FieldUserCode
// to PathDevice.
func (r *Renderer) Device(w http.ResponseWriter, req *http.Request, status int, v Device) error {
	v.Code = cleanText(v.Code, maxUserCode)
	body := deviceBody{Device: v, Server: r.site.Server}
	return r.write(w, r.choose(req, v.Locales), status, "device", frame{Body: body})
}

// DeviceDone is the last page, after a decision about a device. It leads nowhere:
// the device goes on by itself.
type DeviceDone struct {
	Client   Client
	Resource Resource
	User     string
	Denied   bool
	Locales  string // see Consent.Locales
}

type deviceDoneBody struct {
	DeviceDone
	Client *clientView
	Server serverView
}

// DeviceDone writes the last page.
func (r *Renderer) DeviceDone(w http.ResponseWriter, req *http.Request, status int, v DeviceDone) error {
	c, err := newClientView(v.Client)
	if err != nil {
		return err
	}
	body := deviceDoneBody{DeviceDone: v, Client: c, Server: r.server(v.Resource)}
	return r.write(w, r.choose(req, v.Locales), status, "devicedone", frame{Body: body})
}
