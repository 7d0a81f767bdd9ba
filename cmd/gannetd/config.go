package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"

	"gannet/server"
	"gannet/server/auth"
)

const description = `gannetd is an instant-messaging server for mobile and IoT clients over raw TCP.

Without flags it listens on 127.0.0.1 and believes what clients say about themselves. For other machines:
gannet token --new-key dev.key makes a key, gannetd --listen 0.0.0.0:7000 --auth jwt --auth-keys dev.key uses it.

Every flag is also a variable (--listen: GANNET_LISTEN) and a key of the configuration file (listen = "…", limits-inbox: inbox
under [limits]). A flag goes before a variable, a variable before the file.`

// flags are gannetd's settings.
type flags struct {
	Config  kong.ConfigFlag  `placeholder:"FILE" help:"Configuration file (TOML)."`
	Version kong.VersionFlag `help:"Print the version."`

	Listen   string        `default:"127.0.0.1:7000" placeholder:"ADDR" help:"Where clients connect, host:port; port 0 takes a free one. Default: ${default}."`
	Admin    string        `default:"127.0.0.1:7001" placeholder:"ADDR" help:"Admin HTTP (health, metrics, profiles, API); off for none. Default: ${default}."`
	Data     string        `default:"data" placeholder:"DIR" help:"Folder for what is stored; made on first start, locked against a second process. Default: ${default}."`
	Check    bool          `env:"-" help:"Read the whole data folder and say whether it is sound, without changing it. Exit code 0: sound, 2: damaged, 1: it could not be checked."`
	Node     string        `default:"gannet" placeholder:"NAME" help:"Name of this node. Default: ${default}."`
	Loops    int           `placeholder:"N" help:"Event loops. Default: one a CPU."`
	Drain    time.Duration `default:"10s" placeholder:"TIME" help:"On SIGTERM sessions are ended over this time. Default: ${default}."`
	LogLevel string        `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error. Default: ${default}."`
	Hints    bool          `help:"Print how to talk to the server also when the output is not a terminal."`

	Auth         string   `default:"open" enum:"open,jwt" placeholder:"MODE" help:"open: everyone is whom they say; jwt: a signed token says it. Default: ${default}."`
	AuthKeys     []string `placeholder:"FILE" type:"path" help:"Keys for --auth jwt, several for rotation: a secret (HS256), a PEM public key (EdDSA, RS256, ES256) or a JWKS file. SIGHUP reads them anew."`
	AuthAudience []string `placeholder:"AUD" help:"Audiences of which a token must name one."`
	Insecure     bool     `help:"Allow --auth open on addresses that other machines can reach."`
	AdminToken   string   `placeholder:"TOKEN" help:"Bearer token asked of admin clients; at least 16 bytes, required when --admin is not on loopback."`

	Store         string `default:"pebble" enum:"pebble,memory" placeholder:"KIND" help:"What keeps messages: pebble, on disk in --data, or memory, which is gone when gannetd ends. Default: ${default}."`
	StoreCache    int    `default:"67108864" placeholder:"BYTES" help:"Blocks of the store kept in memory. Default: ${default}."`
	StoreMemtable int    `default:"67108864" placeholder:"BYTES" help:"Written to the store before it goes to a table; up to three times that is kept in memory. Default: ${default}."`
	BackupDir     string `placeholder:"DIR" help:"Folder in which gannet backup may make backups, an absolute path. Default: none, and no backups."`

	Retention retentionFlags `embed:"" prefix:"retention-" group:"Retention"`
	Limits    limitFlags     `embed:"" prefix:"limits-" group:"Limits"`
}

type retentionFlags struct {
	DirectAge   time.Duration `default:"720h" placeholder:"TIME" help:"Direct messages are kept for so long; 0: for ever. Default: ${default}."`
	GroupAge    time.Duration `default:"720h" placeholder:"TIME" help:"Messages of groups. Default: ${default}."`
	TopicAge    time.Duration `default:"168h" placeholder:"TIME" help:"Messages of topics. Default: ${default}."`
	AllAge      time.Duration `default:"720h" placeholder:"TIME" help:"Messages to all. Default: ${default}."`
	DirectCount int           `default:"0" placeholder:"N" help:"Latest direct messages of two users that are kept; 0: all. Default: ${default}."`
	GroupCount  int           `default:"0" placeholder:"N" help:"Of a group. Default: ${default}."`
	TopicCount  int           `default:"100000" placeholder:"N" help:"Of a topic. Default: ${default}."`
	AllCount    int           `default:"100000" placeholder:"N" help:"To all. Default: ${default}."`
	DeadLetters int           `default:"10000" placeholder:"N" help:"Undelivered messages that are listed for the admin; 0: none. Default: ${default}."`
}

// options are the same for the server, to which zero means the default, and less than that what zero means here.
func (r retentionFlags) options() (server.Retention, error) {
	o := server.Retention(r)
	for name, v := range map[string]*time.Duration{
		"direct-age": &o.DirectAge, "group-age": &o.GroupAge, "topic-age": &o.TopicAge, "all-age": &o.AllAge,
	} {
		if *v < 0 {
			return o, fmt.Errorf("retention-%s: %v is less than 0, which means for ever", name, *v)
		}
		if *v == 0 {
			*v = -1
		}
	}
	for name, v := range map[string]*int{
		"direct-count": &o.DirectCount, "group-count": &o.GroupCount, "topic-count": &o.TopicCount, "all-count": &o.AllCount,
		"dead-letters": &o.DeadLetters,
	} {
		if *v < 0 {
			return o, fmt.Errorf("retention-%s: %d is less than 0, which means no limit, or no letters", name, *v)
		}
		if *v == 0 {
			*v = -1
		}
	}
	return o, nil
}

type limitFlags struct {
	Connections      int           `placeholder:"N" help:"Connections open at once. Default: what the limit of open files leaves."`
	MaxFrame         int           `default:"65536" placeholder:"BYTES" help:"Longest frame body after WELCOME. Default: ${default}."`
	Subscriptions    int           `default:"1024" placeholder:"N" help:"Subscriptions of a session. Default: ${default}."`
	SessionsPerUser  int           `default:"128" placeholder:"N" help:"Sessions of a user. Default: ${default}."`
	SendsPerSecond   int           `placeholder:"N" help:"Messages a second of a session, with bursts of two seconds' worth. Default: 0, no limit."`
	OutBytes         int           `default:"1048576" placeholder:"BYTES" help:"Kept for a reader that does not read. Default: ${default}."`
	OutTotal         int           `default:"536870912" placeholder:"BYTES" help:"Kept for all such readers together. Default: ${default}."`
	SlowReader       time.Duration `default:"30s" placeholder:"TIME" help:"A reader with half of out-bytes waiting for so long is ended. Default: ${default}."`
	TopicBytes       int           `default:"1048576" placeholder:"BYTES" help:"Admitted to a topic and not yet being written, a loop. Default: ${default}."`
	States           int           `default:"65536" placeholder:"N" help:"STATE values kept, a loop. Default: ${default}."`
	StatesPerChannel int           `default:"4096" placeholder:"N" help:"STATE values kept of a channel. Default: ${default}."`
	LoginTimeout     time.Duration `default:"5s" placeholder:"TIME" help:"From connect to HELLO. Default: ${default}."`
	FrameTimeout     time.Duration `default:"10s" placeholder:"TIME" help:"From a frame's first byte to its last. Default: ${default}."`
	HeartbeatMin     time.Duration `default:"15s" placeholder:"TIME" help:"Shortest heartbeat a client may wish for. Default: ${default}."`
	HeartbeatMax     time.Duration `default:"590s" placeholder:"TIME" help:"Longest. Default: ${default}."`
	Inbox            int           `default:"16384" placeholder:"N" help:"Items of a loop's inbox. Default: ${default}."`
	InboxFanoutMax   int           `default:"500" placeholder:"N" help:"Members up to which a group's messages go into their inboxes; larger groups are read from their log. Default: ${default}."`
	AuthQueue        int           `default:"8192" placeholder:"N" help:"Logins waiting for their token to be checked. Default: ${default}."`
}

func (f *flags) options(log *slog.Logger) (server.Options, error) {
	l := f.Limits
	o := server.Options{
		Listen: f.Listen, Admin: f.Admin, AdminToken: f.AdminToken, Data: f.Data, Node: f.Node,
		Store: f.Store, StoreCache: f.StoreCache, StoreMemtable: f.StoreMemtable, BackupDir: f.BackupDir,
		Loops: f.Loops, Drain: f.Drain, Insecure: f.Insecure, AuthQueue: l.AuthQueue, Logger: log,
		Limits: server.Limits{
			Connections: l.Connections, MaxFrame: l.MaxFrame, Subscriptions: l.Subscriptions,
			SessionsPerUser: l.SessionsPerUser, SendsPerSecond: l.SendsPerSecond, OutBytes: l.OutBytes,
			OutTotal: l.OutTotal, SlowReader: l.SlowReader, TopicBytes: l.TopicBytes, States: l.States,
			StatesPerChannel: l.StatesPerChannel, LoginTimeout: l.LoginTimeout, FrameTimeout: l.FrameTimeout,
			HeartbeatMin: l.HeartbeatMin, HeartbeatMax: l.HeartbeatMax, Inbox: l.Inbox, InboxFanoutMax: l.InboxFanoutMax,
		},
	}
	var err error
	if o.Retention, err = f.Retention.options(); err != nil {
		return o, err
	}
	if f.Drain == 0 {
		o.Drain = time.Millisecond // a zero means the default there
	}
	if f.Auth == "open" {
		if len(f.AuthKeys) > 0 {
			return o, errors.New("auth-keys: they are not used with --auth open; say --auth jwt")
		}
		return o, nil
	}
	if len(f.AuthKeys) == 0 {
		return o, errors.New("auth-keys: --auth jwt needs at least one key; gannet token --new-key FILE makes one")
	}
	jwt, err := auth.NewJWT(auth.JWTConfig{KeyFiles: f.AuthKeys, Audience: f.AuthAudience})
	if err != nil {
		return o, err
	}
	o.Auth = jwt
	return o, nil
}

// loadTOML resolves flags from a configuration file. A key that is no flag is an error.
func loadTOML(r io.Reader) (kong.Resolver, error) {
	var tree map[string]any
	if err := toml.NewDecoder(r).Decode(&tree); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, col := at.Position()
			return nil, fmt.Errorf("configuration, line %d column %d: %w", row, col, err)
		}
		return nil, fmt.Errorf("configuration: %w", err)
	}
	values := map[string]any{}
	flatten("", tree, values)
	return &tomlResolver{values: values}, nil
}

// flatten turns {limits: {max_frame: 1}} into limits-max-frame: 1.
func flatten(prefix string, tree map[string]any, into map[string]any) {
	for k, v := range tree {
		k = prefix + strings.ReplaceAll(k, "_", "-")
		if sub, ok := v.(map[string]any); ok {
			flatten(k+"-", sub, into)
		} else {
			into[k] = v
		}
	}
}

type tomlResolver struct{ values map[string]any }

// Validate says which key is no flag.
func (t *tomlResolver) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, f := range app.Flags {
		known[f.Name] = true
	}
	for k := range t.values {
		if !known[k] || k == "config" || k == "help" || k == "version" || k == "check" {
			return fmt.Errorf("configuration: %q is not a setting; gannetd --help lists them", k)
		}
	}
	return nil
}

// Resolve finds a flag's value. The environment goes before the file.
func (t *tomlResolver) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	for _, env := range f.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	return t.values[f.Name], nil
}
