package caddymodule

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"golang.org/x/term"
)

// cmdUserAdd is "caddy mcp-auth user add". The line alone goes to the standard
// output.
func cmdUserAdd(fl caddycmd.Flags) (int, error) {
	name, email := fl.Arg(0), fl.Arg(1)
	if err := checkNewUser(name, email); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	password, err := readPassword(os.Stdin)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	hash, err := hashPassword(password)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Fprintln(os.Stderr, "Add this line to the mcp_auth block of the configuration, and reload Caddy:")
	fmt.Println(userLine(name, hash, email))
	return caddy.ExitCodeSuccess, nil
}

// checkNewUser refuses what the line could not say, beside what no user can have.
func checkNewUser(name, email string) error {
	if err := checkUserName(name); err != nil {
		return err
	}
	if isTokenSubject(name) || strings.ContainsAny(name, "{}`") {
		return fmt.Errorf("%q cannot be the name of a user; choose another one", name)
	}
	if hasPlaceholder(email) {
		return fmt.Errorf("%q is no e-mail address", email)
	}
	return checkEmail(name, email)
}

// Bounds of a password. The hash takes no more than 72 bytes.
const (
	minPassword = 8 // characters
	maxPassword = 72
)

// hashPassword hashes a password as "caddy hash-password" does.
func hashPassword(password []byte) (string, error) {
	if utf8.RuneCount(password) < minPassword || len(password) > maxPassword {
		return "", fmt.Errorf("a password has at least %d characters, and at most %d bytes", minPassword, maxPassword)
	}
	hash, err := caddyauth.BcryptHash{}.Hash(password)
	return string(hash), err
}

// userLine is the line of the configuration for a user.
func userLine(name, hash, email string) string {
	if strings.ContainsAny(name, " \t\"#\\") {
		name = "`" + name + "`"
	}
	return strings.TrimSuffix(fmt.Sprintf("user %s %s %s", name, hash, email), " ")
}

// readPassword asks twice on a terminal, and reads the first line of anything else.
func readPassword(in *os.File) ([]byte, error) {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		line, err := bufio.NewReader(io.LimitReader(in, 4<<10)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	// Whoever gives up gets a terminal back that shows what is typed.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	go func() {
		if _, ok := <-interrupted; ok {
			_ = term.Restore(fd, state)
			os.Exit(caddy.ExitCodeFailedStartup)
		}
	}()
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(os.Stderr, prompt)
		defer fmt.Fprintln(os.Stderr)
		return term.ReadPassword(fd)
	}
	password, err := ask("Password: ")
	if err != nil {
		return nil, err
	}
	again, err := ask("The same once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(password, again) {
		return nil, errors.New("the two passwords differ; nothing was made")
	}
	return password, nil
}
