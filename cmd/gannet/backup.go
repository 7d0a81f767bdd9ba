package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// backupCmd asks a running server for a backup.
type backupCmd struct {
	Admin string `help:"Admin HTTP of the server, host:port or a URL. Default: ${default}." default:"127.0.0.1:7001" env:"GANNET_ADMIN" placeholder:"ADDR"`
	Token string `help:"The server's --admin-token." env:"GANNET_ADMIN_TOKEN" placeholder:"TOKEN"`
	Name  string `arg:"" help:"Name of the backup: a new folder below the server's --backup-dir, as in 2026-01-31."`
}

// Help is shown by `gannet backup --help`.
func (*backupCmd) Help() string {
	return "The server makes it on its own disk, beside what it does, and says where. On the file system of its data the tables of the backup " +
		"share their space with the server's: copy the folder to another disk. gannetd --check --data FOLDER verifies it, gannet restore puts it back."
}

// Run implements the command.
func (c *backupCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	return c.run(ctx, os.Stdout)
}

func (c *backupCmd) run(ctx context.Context, out io.Writer) error {
	url := c.Admin
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	body, err := json.Marshal(map[string]string{"name": c.Name})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+"/v1/backup", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return exitError{fmt.Errorf("no admin interface answers at %s (--admin names another): %w", c.Admin, err), exitNoServer}
	}
	defer res.Body.Close()
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var answer struct {
		Error string
		Path  string
		Bytes uint64
		Epoch string
		Place uint64
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		answer.Error = "it is no gannet server"
	}
	switch {
	case res.StatusCode == http.StatusOK && answer.Path != "":
		_, err := fmt.Fprintf(out, "%s: %d bytes, epoch %s, place %d\n", printable(answer.Path), answer.Bytes, printable(answer.Epoch), answer.Place)
		return err
	case res.StatusCode == http.StatusServiceUnavailable:
		return exitError{errors.New(printable(answer.Error)), exitTemporary}
	case res.StatusCode >= 400 && res.StatusCode < 500:
		return exitError{fmt.Errorf("refused: %s", printable(answer.Error)), exitRefused}
	}
	return fmt.Errorf("the server answers %s: %s", res.Status, printable(answer.Error))
}
