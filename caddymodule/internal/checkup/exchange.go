package checkup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// newClient makes a client that follows no redirects, as MCP clients follow none
// to other origins.
func (c *checkup) newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c.tlsConfig()
	return &http.Client{
		Transport:     t,
		Timeout:       exchangeTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (c *checkup) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: c.opts.Roots, ServerName: c.target.Hostname(), MinVersion: tls.VersionTLS12}
}

// answer is what came back, with its body.
type answer struct {
	*http.Response
	body []byte
}

// send makes one request.
func (c *checkup) send(ctx context.Context, method, address, body string, headers map[string]string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "mcp-auth-check")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer resp.Body.Close()
	a := &answer{Response: resp}
	if mediaType(resp) == "text/event-stream" {
		a.body, err = firstEvent(resp.Body)
	} else {
		a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	return a, err
}

// plain leaves out of an error the method and address that the report names.
func plain(err error) error {
	var inner interface{ Unwrap() error }
	if errors.As(err, &inner) && inner.Unwrap() != nil {
		return inner.Unwrap()
	}
	return err
}

// firstEvent reads the data of the first message of an event stream, which may
// stay open for long.
func firstEvent(r io.Reader) ([]byte, error) {
	var data []byte
	lines := bufio.NewScanner(io.LimitReader(r, maxAnswer))
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if rest, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			data = append(data, bytes.TrimSpace(rest)...)
		} else if len(lines.Bytes()) == 0 && data != nil {
			return data, nil
		}
	}
	return data, lines.Err()
}

func mediaType(r *http.Response) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

// document fetches a JSON document.
func (c *checkup) document(ctx context.Context, address string, v any) error {
	a, err := c.send(ctx, http.MethodGet, address, "", map[string]string{"Accept": "application/json", "MCP-Protocol-Version": protocolVersion})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", address, err)
	case a.StatusCode >= 300 && a.StatusCode < 400:
		return fmt.Errorf("%s redirects to %s, and clients do not follow", address, a.Header.Get("Location"))
	case a.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", address, a.Status)
	case mediaType(a.Response) != "application/json":
		return fmt.Errorf("%s is of type %q instead of application/json", address, a.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("%s is no JSON document of the right form: %w", address, err)
	}
	return nil
}
