// Command gannetd is the gannet server: flags, configuration, wiring and signals. Package server does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"gannet/server"
	"gannet/server/auth"
)

// version is set by the build.
var version = "dev"

func main() {
	f, err := parse(os.Args[1:])
	switch {
	case err != nil:
	case f.Check:
		err = check(f.Data, os.Stdout, progress())
	default:
		err = run(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gannetd:", err)
		os.Exit(exitCode(err))
	}
}

// parse reads flags, environment and configuration file, in this order of precedence.
func parse(args []string) (*flags, error) {
	f := &flags{}
	p, err := kong.New(f, kong.Name("gannetd"), kong.Description(description),
		kong.Vars{"version": version}, kong.DefaultEnvars("GANNET"),
		kong.Configuration(loadTOML), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	if err != nil {
		return nil, err
	}
	if _, err = p.Parse(args); err != nil {
		return nil, fmt.Errorf("%w (gannetd --help explains the flags)", err)
	}
	return f, nil
}

func run(f *flags) error {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return fmt.Errorf("log-level: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	o, err := f.options(log)
	if err != nil {
		return err
	}
	s, err := server.New(o)
	if err != nil {
		return err
	}
	stops := []os.Signal{syscall.SIGTERM, os.Interrupt}
	jwt, _ := o.Auth.(*auth.JWT)
	if jwt == nil {
		stops = append(stops, syscall.SIGHUP) // the terminal was closed
	} else {
		go reloadOnHangup(jwt, log)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
	defer stop()
	go announce(ctx, s, f)
	go endOnSecondSignal(ctx)
	err = s.Run(ctx)
	if errors.Is(err, server.ErrEngine) {
		log.Error("crash", "error", err)
	}
	return err
}

// announce prints where the server is as soon as clients can connect: one line with the addresses, for programs,
// and how to talk to it when a person looks.
func announce(ctx context.Context, s *server.Server, f *flags) {
	select {
	case <-s.Ready():
	case <-ctx.Done():
		return
	}
	admin := s.AdminAddr()
	if admin == "" {
		admin = "off"
	}
	fmt.Printf("gannetd %s ready listen=%s admin=%s auth=%s\n", version, s.Addr(), admin, f.Auth)
	if st, err := os.Stdout.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 || f.Hints {
		fmt.Printf(hints, s.Addr(), s.Addr())
	}
}

const hints = `
Talk to it from two other terminals:
  bin/gannet chat --addr %s --user alice --to bob
  bin/gannet chat --addr %s --user bob --to alice
Ctrl-C stops the server; a second Ctrl-C stops it at once.
`

// endOnSecondSignal ends the process at once when a signal comes during the drain.
func endOnSecondSignal(ctx context.Context) {
	<-ctx.Done()
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGTERM, os.Interrupt)
	<-again
	fmt.Fprintln(os.Stderr, "gannetd: second signal, ending at once")
	os.Exit(1)
}

// reloadOnHangup reads the keys anew on SIGHUP, as long as the process lives.
func reloadOnHangup(jwt *auth.JWT, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	for range hup {
		if err := jwt.Reload(); err != nil {
			log.Error("keys were not reloaded, the old ones stay in use", "error", err)
		} else {
			log.Info("keys reloaded", "keys", jwt.Keys())
		}
	}
}
