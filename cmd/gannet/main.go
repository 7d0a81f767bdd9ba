// Gannet is the tool beside the server gannetd: it chats, sends and listens, makes tokens, reads frames and
// measures. People and scripts call it.
//
// Each command is a struct with a Run method in a file of its own; chat, send and sub share the flags of connFlags and
// reach the server through the client package only. A command owns everything that it starts and has ended it when
// Run returns.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/alecthomas/kong"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

type cli struct {
	Chat    chatCmd    `cmd:"" help:"Talk to a user or in a topic, line by line."`
	Send    sendCmd    `cmd:"" help:"Send one message, from arguments or standard input."`
	Sub     subCmd     `cmd:"" help:"Print what arrives: topics and messages to this user."`
	Token   tokenCmd   `cmd:"" help:"Make a key and tokens for development."`
	Decode  decodeCmd  `cmd:"" help:"Read frames: bytes in, fields out."`
	Bench   benchCmd   `cmd:"" help:"Put load on a server and measure."`
	Backup  backupCmd  `cmd:"" help:"Back up a running server."`
	Restore restoreCmd `cmd:"" help:"Put a backup into a new data folder."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

const description = `The tool beside the messaging server gannetd.

Two terminals talk:

  gannet chat --user alice --to bob
  gannet chat --user bob --to alice

A topic, from a script:

  gannet sub --topic news --json --count 1
  gannet send --topic news "the kettle is on"
  date | gannet send --user cron --to alice

The server is the one at 127.0.0.1:7000 unless --addr or GANNET_ADDR says otherwise.

Exit codes of chat, send, sub and backup: 0 done; 1 failed; 2 no connection to the server; 3 refused, and it will be again;
4 refused for now, try later; 80 wrong use of flags.`

func main() {
	parser := kong.Must(new(cli), kong.Name("gannet"), kong.Description(description), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	parser.FatalIfErrorf(withHelp(err)) // exits with the error's code if it has one
	parser.FatalIfErrorf(ctx.Run())
}

// withHelp adds to an error of the flags where they are explained.
func withHelp(err error) error {
	var parsing *kong.ParseError
	if !errors.As(err, &parsing) {
		return err
	}
	command := "gannet"
	if node := parsing.Context.Selected(); node != nil {
		command = node.FullPath()
	}
	return exitError{fmt.Errorf("%w (%s --help explains the flags)", err, command), parsing.ExitCode()}
}

type versionCmd struct{}

func (versionCmd) Run() error {
	_, err := fmt.Printf("gannet %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// Exit codes of the commands that talk to a server.
const (
	exitFailed    = 1
	exitNoServer  = 2
	exitRefused   = 3
	exitTemporary = 4
)

// exitError is an error with an exit code (kong.ExitCoder).
type exitError struct {
	error
	code int
}

func (e exitError) ExitCode() int { return e.code }

func (e exitError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var e exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}
