package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"telemetryd/internal/drive"
	"telemetryd/internal/hook"
	"telemetryd/internal/obd"
	"telemetryd/internal/port"
	"telemetryd/internal/publish"
	"telemetryd/internal/telemetry"
)

const envPrefix = "TELEMETRYD"

// settings are the daemon's settings as they were written: texts, so that a value is
// judged in one place wherever it came from. The contract's table tells them.
type settings struct {
	ConfigFile    string            `name:"config" placeholder:"FILE" help:"YAML file; its keys are named as the flags, with _ for -."`
	VehicleID     string            `placeholder:"ID" help:"Topic segment that names the vehicle; required."`
	Broker        []string          `placeholder:"URL" help:"mqtt://, mqtts://, ws:// or wss://; repeat for fail-over, the first is gone back to. Default mqtt://127.0.0.1:1883."`
	ClientID      string            `placeholder:"ID" help:"MQTT client id. Default telemetryd-<vehicle-id>."`
	OBD           string            `name:"obd" placeholder:"ADDRESS" help:"auto, off, serial:///dev/ttyUSB0?baud=38400 (baud is probed when left out) or tcp://host:port. Default auto."`
	GPS           string            `name:"gps" placeholder:"ADDRESS" help:"auto (gpsd on this machine if it has a receiver, else ports named as one), off, serial:///dev/ttyACM0?baud=9600 (baud is found when left out), gpsd://127.0.0.1:2947, tcp://host:port or file:///x.nmea. Default auto."`
	Signals       string            `placeholder:"NAME=RATE,..." help:"What to read of the car and how often: hertz, or max. Default: what the car has, at 5, 1 or 0.1 Hz."`
	MaxRequests   string            `name:"obd-max-requests" placeholder:"N" help:"Ceiling of requests on the car's bus per second, 0 for none. Default 20."`
	OBDProbe      string            `name:"obd-probe" placeholder:"YES" help:"yes: --obd auto may also write to serial ports that are not known to be an adapter, after it heard nothing from them. Default no."`
	Record        string            `placeholder:"DIR" help:"Keep raw recordings of both ports there, for bug reports. Default: none."`
	RecordSize    string            `placeholder:"SIZE" help:"Bound of the recordings. Default 64MB."`
	HTTP          string            `name:"http" placeholder:"ADDRESS" help:"Where metrics (/metrics) and health (/healthz) can be read: an address of this machine, or off. Default 127.0.0.1:9580."`
	BatchInterval string            `placeholder:"DURATION" help:"A batch is closed after this long, or at 64 KiB. Default 5s."`
	BatchForm     string            `placeholder:"FORM" help:"rows, or columns: one array for each signal, smaller. Default rows."`
	Compress      string            `placeholder:"HOW" help:"none, gzip or zstd, for batches. Default none."`
	DataBudget    string            `placeholder:"SIZE" help:"What the broker's link may take a month, both ways, as 500MB. Past it the backlog waits and live values are few; events go on. Default: no budget."`
	DataBudgetDay string            `placeholder:"DAY" help:"Day of the month on which the plan's month begins, 1 to 28, at 0 h UTC. Default 1."`
	DeliveryCheck string            `placeholder:"YES" help:"no: do not read our own status back from the broker, for an account that may only write. Default yes."`
	TopicPrefix   string            `placeholder:"PREFIX" help:"First segment of the topics. Default vehicles."`
	StateDir      string            `placeholder:"DIR" help:"Buffer and identity. Default $$STATE_DIRECTORY, else ~/.local/state/telemetryd."`
	BufferSize    string            `placeholder:"SIZE" help:"Bound of the buffer, as 256MB or 1GiB. Default 256MB."`
	BufferAge     string            `placeholder:"DURATION" help:"Older records are given up, and named in a data_gap, as 72h; 0 keeps them. Default 0."`
	Username      string            `placeholder:"NAME" help:"User at the broker."`
	PasswordFile  string            `placeholder:"FILE" help:"File that holds the password at the broker."`
	CAFile        string            `name:"ca-file" placeholder:"FILE" help:"CA certificates that sign the broker's, PEM. Default: the system's."`
	CertFile      string            `placeholder:"FILE" help:"Our certificate for the broker, PEM."`
	KeyFile       string            `placeholder:"FILE" help:"Its key, PEM."`
	ServerName    string            `placeholder:"NAME" help:"Name that TLS asks for and verifies, where the broker's URL has another one (a private endpoint)."`
	ALPN          []string          `name:"alpn" placeholder:"NAME,..." help:"Protocols that TLS offers, as x-amzn-mqtt-ca for AWS IoT on port 443."`
	KeepAlive     string            `placeholder:"DURATION" help:"How long the connection may be silent: 5s to 20m. Default 10s."`
	MaxMessage    string            `placeholder:"SIZE" help:"Largest message that the broker takes, topic and header included: from 4KiB on, or none. Default none."`
	PublishRate   string            `placeholder:"N" help:"Most messages a second, 0 for no limit. Default 0."`
	InFlight      string            `placeholder:"N" help:"Most messages without acknowledgement. Default 140."`
	Retain        string            `placeholder:"YES" help:"no: publish status and last will without the retained flag, for a broker that refuses it. Default yes."`
	LogLevel      string            `placeholder:"LEVEL" help:"debug, info, warn or error. Default info."`
	LogFormat     string            `placeholder:"FORMAT" help:"text or json, to standard error. Default text."`
	own           []ownText         // of the file only
	sections      sections          // the same
	origin        map[string]string // by flag name: where its value came from

	Profile             string `placeholder:"NAME" help:"vehicle, or tracker: a trailer or container with a GPS receiver alone, on little data. It changes defaults; what is set goes before it. Default vehicle."`
	Latest              string `placeholder:"DURATION" help:"Publish the newest value of each signal, retained, at most this often, as 5s; or off. Default off."`
	Position            string `placeholder:"DURATION" help:"Publish the position alone, retained, at most this often, as 10s; or off. Default off."`
	FixEvery            string `placeholder:"DURATION" help:"Keep a fix of the receiver at most this often; 0 for each. Default 0."`
	HomeAssistant       yes    `placeholder:"YES" help:"Tell Home Assistant of this vehicle; turns --latest 5s and --position 10s on. Default no."`
	HomeAssistantPrefix string `placeholder:"PREFIX" help:"Discovery prefix of Home Assistant. Default homeassistant."`
}

// options are the settings after they were judged.
type options struct {
	vehicleID     string
	brokers       []publish.Broker
	clientID      string
	obd, gps      source
	fastest       float64 // km/h that the vehicle cannot reach; 0: no car does
	rates         map[string]float64
	own           []obd.OwnSignal
	fences        *drive.Fences // nil: none
	maxRequests   float64
	obdProbe      bool
	record        string // directory; empty for none
	recordSize    int64
	http          string // address; empty for off
	batchInterval time.Duration
	form          publish.Form
	limits        publish.Limits
	dataBudget    uint64 // bytes a month; 0: none
	dataBudgetDay int
	writeOnly     bool
	topicPrefix   string
	stateDir      string
	bufferSize    int64
	bufferAge     time.Duration // 0: no bound
	credentials   publish.Credentials
	trips         drive.Trips
	driving       drive.Driving
	hooks         []hook.Hook
	commands      commandOptions
	logLevel      slog.Level
	logJSON       bool
	parked        parkedOptions

	privacy          drive.Privacy // without its secret
	latest, position time.Duration // how often at most; 0: not
	fixEvery         time.Duration // least time between two fixes that are kept; 0: all
	homeAssistant    string        // discovery prefix; empty for none
}

// source is where readings come from.
type source struct {
	off     bool
	address *port.Address // nil: found by itself
}

// load completes the settings with the file and notes where each came from.
func (s *settings) load(command *kong.Context) error {
	s.origin = map[string]string{}
	flags := map[string]*kong.Flag{}
	for _, f := range command.Flags() {
		flags[f.Name] = f
		for _, env := range f.Envs {
			if os.Getenv(env) != "" {
				s.origin[f.Name] = env
			}
		}
	}
	for _, p := range command.Path {
		if p.Flag != nil && !p.Resolved {
			s.origin[p.Flag.Name] = "--" + p.Flag.Name
		}
	}
	if s.ConfigFile == "" {
		return nil
	}
	file, err := readFile(s.ConfigFile, s.targets())
	if err != nil {
		return err
	}
	for name, v := range file {
		if s.origin[name] != "" {
			continue // flag and environment come first
		}
		s.origin[name] = v.where
		switch target := s.targets()[name].(type) {
		case *string:
			*target = strings.Join(v.texts, ",")
		case *[]string:
			*target = v.texts
		case *[]ownText:
			*target = v.own
		case section:
			if err := decode(s.ConfigFile, strings.ReplaceAll(name, "-", "_"), v.node, target.target); err != nil {
				return err
			}
		}
	}
	return nil
}

// targets are the settings a file may hold, by flag name.
func (s *settings) targets() map[string]any {
	all := map[string]any{
		"vehicle-id": &s.VehicleID, "broker": &s.Broker, "client-id": &s.ClientID, "obd": &s.OBD, "gps": &s.GPS,
		"own-signals": &s.own, "obd-probe": &s.OBDProbe, "record": &s.Record, "record-size": &s.RecordSize, "http": &s.HTTP,
		"signals": &s.Signals, "obd-max-requests": &s.MaxRequests, "batch-interval": &s.BatchInterval,
		"batch-form": &s.BatchForm, "compress": &s.Compress, "delivery-check": &s.DeliveryCheck,
		"data-budget": &s.DataBudget, "data-budget-day": &s.DataBudgetDay,
		"topic-prefix": &s.TopicPrefix, "state-dir": &s.StateDir, "buffer-size": &s.BufferSize, "buffer-age": &s.BufferAge,
		"username": &s.Username, "password-file": &s.PasswordFile, "ca-file": &s.CAFile, "cert-file": &s.CertFile,
		"key-file": &s.KeyFile, "server-name": &s.ServerName, "alpn": &s.ALPN, "keep-alive": &s.KeepAlive, "max-message": &s.MaxMessage,
		"publish-rate": &s.PublishRate, "in-flight": &s.InFlight, "retain": &s.Retain, "log-level": &s.LogLevel, "log-format": &s.LogFormat,
	}
	maps.Copy(all, map[string]any{
		"profile": &s.Profile, "latest": &s.Latest, "position": &s.Position, "fix-every": &s.FixEvery,
		"home-assistant": (*string)(&s.HomeAssistant), "home-assistant-prefix": &s.HomeAssistantPrefix,
	})
	maps.Copy(all, s.sections.targets())
	return all
}

var (
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	prefixPattern = regexp.MustCompile(`^[^/#+$\x00][^#+\x00]{0,127}$`)
)

// allowedID is idPattern for people.
const allowedID = "1 to 64 of A-Z a-z 0-9 . _ -"

// badVehicleID is for commands that take the id as a flag alone.
func badVehicleID(id string) error {
	return &usageError{fmt.Errorf("--vehicle-id: %q is not allowed; allowed: %s", id, allowedID)}
}

// judge checks every setting and returns all that is wrong.
func (s *settings) judge() (options, error) {
	var o options
	var errs []error
	wrong := func(name, value, allowed string) {
		from := cmp.Or(s.origin[name], "--"+name)
		errs = append(errs, fmt.Errorf("%s: %q is not allowed; allowed: %s", from, value, allowed))
	}
	failed := func(name string, err error) {
		errs = append(errs, fmt.Errorf("%s: %w", cmp.Or(s.origin[name], "--"+name), err))
	}

	s.applyProfile(wrong)
	switch o.vehicleID = s.VehicleID; {
	case o.vehicleID == "":
		errs = append(errs, errors.New("no vehicle id: give --vehicle-id, TELEMETRYD_VEHICLE_ID or vehicle_id in the file; allowed: "+allowedID))
	case !idPattern.MatchString(o.vehicleID):
		wrong("vehicle-id", o.vehicleID, allowedID)
	}
	for _, b := range s.Broker {
		broker, err := publish.ParseBroker(b)
		if err != nil {
			failed("broker", err)
			continue
		}
		o.brokers = append(o.brokers, broker)
	}
	if len(s.Broker) == 0 {
		broker, err := publish.ParseBroker("mqtt://127.0.0.1:1883")
		if err != nil {
			failed("broker", err)
		}
		o.brokers = append(o.brokers, broker)
	}
	if o.clientID = cmp.Or(s.ClientID, "telemetryd-"+o.vehicleID); len(o.clientID) > 256 || strings.ContainsAny(o.clientID, "\x00\n") {
		wrong("client-id", o.clientID, "1 to 256 printable characters")
	}
	var err error
	if o.obd, err = parseSource(s.OBD, "serial", "tcp"); err != nil {
		failed("obd", err)
	}
	if o.gps, err = parseSource(s.GPS, "serial", "gpsd", "tcp", "file"); err != nil {
		failed("gps", err)
	}
	if o.obd.address != nil && o.gps.address != nil && o.obd.address.SameDevice(*o.gps.address) {
		failed("gps", fmt.Errorf("%s is the port of the OBD adapter, too; each needs one of its own", o.gps.address))
	}
	for _, own := range s.own {
		signal, err := define(own)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", own.where, err))
		}
		o.own = append(o.own, signal)
	}
	if o.rates, err = parseRates(s.Signals, o.own); err != nil {
		failed("signals", err)
	}
	o.obdProbe = judgeYes("obd-probe", cmp.Or(s.OBDProbe, "no"), wrong)
	o.writeOnly = !judgeYes("delivery-check", cmp.Or(s.DeliveryCheck, "yes"), wrong)
	o.record = s.Record
	if o.recordSize, err = parseSize(cmp.Or(s.RecordSize, "64MB")); err != nil || o.recordSize < 1<<20 {
		wrong("record-size", s.RecordSize, "a size from 1MiB on, as 64MB")
	}
	if o.http, err = parseHTTP(cmp.Or(s.HTTP, "127.0.0.1:9580")); err != nil {
		failed("http", err)
	}
	if o.maxRequests, err = strconv.ParseFloat(cmp.Or(s.MaxRequests, "20"), 64); err != nil || !(o.maxRequests == 0 || o.maxRequests >= 0.01 && o.maxRequests <= 10000) {
		wrong("obd-max-requests", s.MaxRequests, "a number from 0.01 to 10000, or 0 for no ceiling")
	}
	if o.batchInterval, err = time.ParseDuration(cmp.Or(s.BatchInterval, "5s")); err != nil || o.batchInterval < 100*time.Millisecond || o.batchInterval > time.Hour {
		wrong("batch-interval", s.BatchInterval, "a duration from 100ms to 1h, as 5s")
	}
	switch cmp.Or(s.BatchForm, "rows") {
	case "rows":
	case "columns":
		o.form.Columns = true
	default:
		wrong("batch-form", s.BatchForm, "rows, columns")
	}
	switch o.form.Compression = publish.Compression(cmp.Or(s.Compress, string(publish.Plain))); o.form.Compression {
	case publish.Plain, publish.Gzip, publish.Zstd:
	default:
		wrong("compress", s.Compress, "none, gzip, zstd")
	}
	if s.DataBudget != "" && s.DataBudget != "none" {
		size, err := parseSize(s.DataBudget)
		if o.dataBudget = uint64(size); err != nil || size < 10e3 {
			wrong("data-budget", s.DataBudget, "a size from 10kB on, as 500MB, or none")
		}
	}
	if o.dataBudgetDay, err = strconv.Atoi(cmp.Or(s.DataBudgetDay, "1")); err != nil || o.dataBudgetDay < 1 || o.dataBudgetDay > 28 {
		wrong("data-budget-day", s.DataBudgetDay, "1 to 28")
	}
	if o.topicPrefix = cmp.Or(s.TopicPrefix, "vehicles"); !prefixPattern.MatchString(o.topicPrefix) || strings.HasSuffix(o.topicPrefix, "/") {
		wrong("topic-prefix", s.TopicPrefix, "1 to 128 characters without # and +, no / at its ends, no $ at its start")
	}
	if o.bufferSize, err = parseSize(cmp.Or(s.BufferSize, "256MB")); err != nil || o.bufferSize < 1<<20 {
		wrong("buffer-size", s.BufferSize, "a size from 1MiB on, as 256MB or 1GiB")
	}
	if o.bufferAge, err = time.ParseDuration(cmp.Or(s.BufferAge, "0")); err != nil || o.bufferAge != 0 && o.bufferAge < time.Minute {
		wrong("buffer-age", s.BufferAge, "a duration from 1m on, as 72h, or 0 for none")
	}
	if o.stateDir, err = stateDir(s.StateDir); err != nil {
		failed("state-dir", err)
	}
	s.judgeNow(&o, wrong)
	errs = append(errs, s.judgeSections(&o)...)
	o.limits = s.judgeLimits(wrong)
	o.credentials = publish.Credentials{Username: s.Username, PasswordFile: s.PasswordFile, CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
		ServerName: s.ServerName, ALPN: judgeTLS(s.ServerName, s.ALPN, wrong)}
	if (s.CertFile == "") != (s.KeyFile == "") {
		failed("cert-file", errors.New("--cert-file and --key-file go together"))
	} else if err := o.credentials.Check(); err != nil {
		errs = append(errs, err)
	}
	if err := o.logLevel.UnmarshalText([]byte(cmp.Or(s.LogLevel, "info"))); err != nil {
		wrong("log-level", s.LogLevel, "debug, info, warn, error")
	}
	switch cmp.Or(s.LogFormat, "text") {
	case "text":
	case "json":
		o.logJSON = true
	default:
		wrong("log-format", s.LogFormat, "text, json")
	}
	return o, errors.Join(errs...)
}

func parseSource(s string, schemes ...string) (source, error) {
	switch s {
	case "", "auto":
		return source{}, nil
	case "off":
		return source{off: true}, nil
	}
	a, err := port.Parse(s, schemes...)
	if err != nil {
		return source{}, fmt.Errorf("%w, auto, off", err)
	}
	return source{address: &a}, nil
}

// parseHTTP reads where to listen; empty for off. Whoever reaches the address may read:
// it has to be of this machine alone.
func parseHTTP(text string) (string, error) {
	if text == "off" {
		return "", nil
	}
	host, number, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(number, 10, 16)
	}
	ip := net.ParseIP(host)
	if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("%q; allowed: 127.0.0.1:port, [::1]:port, localhost:port or off; other addresses would need a password, which is not there yet", text)
	}
	return text, nil
}

// define makes a signal of the user's own from its texts.
func define(own ownText) (obd.OwnSignal, error) {
	d := obd.Definition{Name: own.name, Rate: 1}
	for key, target := range map[string]*string{"request": &d.Request, "header": &d.Header, "filter": &d.Filter, "formula": &d.Formula, "unit": &d.Unit} {
		switch texts := own.fields[key]; len(texts) {
		case 0:
		case 1:
			*target = texts[0]
		default:
			return obd.OwnSignal{}, fmt.Errorf("%s: a single value is allowed, not a list", key)
		}
	}
	span, err := numbers(own.fields["range"])
	if err != nil || len(span) != 2 {
		return obd.OwnSignal{}, errors.New("range: allowed: two numbers, as [0, 100]; what is outside counts as wrong")
	}
	d.Min, d.Max = span[0], span[1]
	if texts := own.fields["rate"]; len(texts) > 0 {
		if d.Rate, err = parseRate(texts[0]); err != nil || len(texts) > 1 {
			return obd.OwnSignal{}, fmt.Errorf("rate: %v; allowed: 0.0001 to 1000 hertz, or max", texts)
		}
	}
	return obd.Define(d)
}

func numbers(texts []string) ([]float64, error) {
	var all []float64
	for _, text := range texts {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

// parseRate reads hertz, or max.
func parseRate(text string) (float64, error) {
	if text == "max" {
		return math.Inf(1), nil
	}
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || !(rate == 0 || rate >= 0.0001 && rate <= 1000) {
		return 0, fmt.Errorf("%q; allowed: a rate from 0.0001 to 1000 hertz, 0 for never, or max", text)
	}
	return rate, nil
}

// parseRates reads "name=rate,name=rate". Nothing means the rates of the table.
func parseRates(s string, own []obd.OwnSignal) (map[string]float64, error) {
	if s == "" {
		return nil, nil
	}
	rates := map[string]float64{}
	for part := range strings.SplitSeq(s, ",") {
		name, text, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=rate; allowed: a rate in hertz, or max", part)
		}
		signal, known := telemetry.FindSignal(name)
		known = known && signal.Source != telemetry.FromReceiver || slices.ContainsFunc(own, func(o obd.OwnSignal) bool { return o.Name == name })
		if !known {
			return nil, fmt.Errorf("unknown signal %q; allowed: %s", name, strings.Join(append(carSignals(), ownNames(own)...), " "))
		}
		rate, err := parseRate(text)
		if err != nil {
			return nil, fmt.Errorf("%s=%w", name, err)
		}
		rates[name] = rate
	}
	return rates, nil
}

func ownNames(own []obd.OwnSignal) (names []string) {
	for _, o := range own {
		names = append(names, o.Name)
	}
	return names
}

func carSignals() []string {
	var names []string
	for _, s := range telemetry.Signals() {
		if s.Source != telemetry.FromReceiver {
			names = append(names, s.Name)
		}
	}
	return names
}

// parseSize reads bytes with a unit: decimal kB MB GB, binary KiB MiB GiB.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGkibmg ")
	units := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	unit, ok := units[strings.TrimSpace(s[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || !(n*unit >= 0 && n*unit <= 1<<50) {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return int64(n * unit), nil
}

func stateDir(given string) (string, error) {
	if dir := cmp.Or(given, os.Getenv("STATE_DIRECTORY")); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home directory to keep the state in: %w", err)
	}
	return filepath.Join(home, ".local", "state", "telemetryd"), nil
}
