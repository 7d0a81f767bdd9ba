package server_test

import (
	"strings"
	"testing"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/auth"
)

func TestOptionsAreValidated(t *testing.T) {
	with := func(change func(o *server.Options)) server.Options {
		var o server.Options
		change(&o)
		return o
	}
	limit := func(change func(l *server.Limits)) server.Options {
		return with(func(o *server.Options) { change(&o.Limits) })
	}
	for _, c := range []struct {
		field string // what the error begins with
		o     server.Options
	}{
		{"listen:", with(func(o *server.Options) { o.Listen = "7000" })},
		{"listen:", with(func(o *server.Options) { o.Listen = "127.0.0.1:http" })},
		{"listen:", with(func(o *server.Options) { o.Listen = "127.0.0.1:70000" })},
		{"listen:", with(func(o *server.Options) { o.Listen = "example.org:7000" })},
		{"listen:", with(func(o *server.Options) { o.Listen = "::1:7000" })},
		{"node:", with(func(o *server.Options) { o.Node = "a\nb" })},
		{"node:", with(func(o *server.Options) { o.Node = strings.Repeat("n", 65) })},
		{"loops:", with(func(o *server.Options) { o.Loops = -1 })},
		{"loops:", with(func(o *server.Options) { o.Loops = 1025 })},
		{"drain:", with(func(o *server.Options) { o.Drain = -1 })},
		{"drain:", with(func(o *server.Options) { o.Drain = 2 * time.Hour })},
		{"auth:", with(func(o *server.Options) { o.Listen = "0.0.0.0:7000" })},
		{"auth:", with(func(o *server.Options) { o.Listen = ":7000" })},
		{"auth:", with(func(o *server.Options) { o.Listen = "[::]:7000" })},
		{"auth_workers:", with(func(o *server.Options) { o.AuthWorkers = -1 })},
		{"auth_timeout:", with(func(o *server.Options) { o.AuthTimeout = -1 })},
		{"auth_timeout:", with(func(o *server.Options) { o.AuthTimeout = time.Hour })},
		{"limits.auth_queue:", with(func(o *server.Options) { o.AuthQueue = -5 })},
		{"limits.auth_queue:", with(func(o *server.Options) { o.AuthQueue = 1 << 30 })},
		{"admin:", with(func(o *server.Options) { o.Admin = "none" })},
		{"admin:", with(func(o *server.Options) { o.Admin = "0.0.0.0:7001" })},
		{"admin:", with(func(o *server.Options) { o.Admin, o.AdminToken = "0.0.0.0:7001", "short" })},
		{"limits.connections:", limit(func(l *server.Limits) { l.Connections = -1 })},
		{"limits.connections:", limit(func(l *server.Limits) { l.Connections = 1 << 26 })},
		{"limits.max_frame:", limit(func(l *server.Limits) { l.MaxFrame = 4095 })},
		{"limits.max_frame:", limit(func(l *server.Limits) { l.MaxFrame = codec.MaxBody + 1 })},
		{"limits.subscriptions:", limit(func(l *server.Limits) { l.Subscriptions = 65536 })},
		{"limits.sessions_per_user:", limit(func(l *server.Limits) { l.SessionsPerUser = 1025 })},
		{"limits.sends_per_second:", limit(func(l *server.Limits) { l.SendsPerSecond = 32768 })},
		{"limits.out_bytes:", limit(func(l *server.Limits) { l.OutBytes = -1 })},
		{"limits.out_total:", limit(func(l *server.Limits) { l.OutTotal = 1 })},
		{"limits.slow_reader:", limit(func(l *server.Limits) { l.SlowReader = -time.Second })},
		{"limits.topic_bytes:", limit(func(l *server.Limits) { l.TopicBytes = -1 })},
		{"limits.states:", limit(func(l *server.Limits) { l.States = -1 })},
		{"limits.states_per_channel:", limit(func(l *server.Limits) { l.StatesPerChannel = -1 })},
		{"limits.login_timeout:", limit(func(l *server.Limits) { l.LoginTimeout = -1 })},
		{"limits.frame_timeout:", limit(func(l *server.Limits) { l.FrameTimeout = 2 * time.Hour })},
		{"limits.heartbeat_min", limit(func(l *server.Limits) { l.HeartbeatMin = time.Millisecond })},
		{"limits.heartbeat_min", limit(func(l *server.Limits) { l.HeartbeatMin = time.Hour })},
		{"limits.heartbeat_min, limits.heartbeat_max:", limit(func(l *server.Limits) { l.HeartbeatMax = 19 * time.Hour })},
		{"limits.inbox:", limit(func(l *server.Limits) { l.Inbox = 1 << 25 })},
		{"limits.handler_queue:", limit(func(l *server.Limits) { l.HandlerQueue = -1 })},
	} {
		s, err := server.New(c.o)
		if err == nil || !strings.HasPrefix(err.Error(), c.field) || s != nil {
			t.Errorf("%+v: error %v, want one that begins with %q", c.o, err, c.field)
		}
	}
}

func TestOptionsThatAreGood(t *testing.T) {
	var zero server.Options
	if err := zero.Validate(); err != nil {
		t.Fatal(err)
	}
	if zero.Listen != "127.0.0.1:7000" || zero.Admin != "127.0.0.1:7001" || zero.Node != "gannet" || zero.Loops < 1 ||
		zero.Drain != 10*time.Second || zero.Limits.Connections < 1 || zero.Limits.MaxFrame != 65536 {
		t.Errorf("defaults %+v", zero)
	}
	for _, o := range []server.Options{
		{Listen: "localhost:7000"}, {Listen: "[::1]:7000"}, {Listen: "127.9.9.9:0"}, {Admin: "off"},
		{Listen: "0.0.0.0:7000", Insecure: true}, {Listen: ":7000", Auth: auth.Open{}},
		{Admin: ":7001", AdminToken: "0123456789abcdef"},
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
