package main

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"telemetryd/internal/publish"
	"telemetryd/internal/telemetry"
)

// serverNamePattern is a host name or an address.
var serverNamePattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,253}$`)

// mostMessage is the largest packet of MQTT (3.1.1, 2.2.3).
const mostMessage = 256 << 20

// judgeLimits checks what a broker allows of us.
func (s *settings) judgeLimits(wrong func(name, value, allowed string)) (l publish.Limits) {
	var err error
	if s.KeepAlive != "" {
		if l.KeepAlive, err = time.ParseDuration(s.KeepAlive); err != nil || l.KeepAlive < 5*time.Second || l.KeepAlive > 20*time.Minute || l.KeepAlive%time.Second != 0 {
			wrong("keep-alive", s.KeepAlive, "whole seconds from 5s to 20m, as 30s")
		}
	}
	if s.MaxMessage != "" && s.MaxMessage != "none" {
		size, err := parseSize(s.MaxMessage)
		if err != nil || size < publish.LeastMessage || size > mostMessage {
			wrong("max-message", s.MaxMessage, "a size from 4KiB to 256MiB, as 128KB, or none")
		}
		l.MaxMessage = int(size)
	}
	if l.Rate, err = strconv.ParseFloat(cmp.Or(s.PublishRate, "0"), 64); err != nil || !(l.Rate == 0 || l.Rate >= 1 && l.Rate <= 10000) {
		wrong("publish-rate", s.PublishRate, "a number from 1 to 10000 messages a second, or 0 for no limit")
	}
	if l.InFlight, err = strconv.Atoi(cmp.Or(s.InFlight, strconv.Itoa(publish.MostInFlight))); err != nil || l.InFlight < 1 || l.InFlight > publish.MostInFlight {
		wrong("in-flight", s.InFlight, fmt.Sprintf("a number from 1 to %d", publish.MostInFlight))
	}
	l.NoRetain = !judgeYes("retain", cmp.Or(s.Retain, "yes"), wrong)
	return l
}

// judgeYes reads yes or no.
func judgeYes(name, value string, wrong func(name, value, allowed string)) bool {
	switch value {
	case "yes", "true":
		return true
	case "no", "false":
	default:
		wrong(name, value, "yes, no")
	}
	return false
}

// judgeTLS checks the names that TLS asks for.
func judgeTLS(serverName string, alpn []string, wrong func(name, value, allowed string)) (protocols []string) {
	if serverName != "" && !serverNamePattern.MatchString(serverName) {
		wrong("server-name", serverName, "a host name or an address, as broker.example")
	}
	for text := range strings.SplitSeq(strings.Join(alpn, ","), ",") {
		switch name := strings.TrimSpace(text); {
		case len(alpn) == 0:
		case name == "" || len(name) > 255 || strings.ContainsAny(name, " \t\n"):
			wrong("alpn", text, "names of protocols, comma separated, as x-amzn-mqtt-ca")
		default:
			protocols = append(protocols, name)
		}
	}
	return protocols
}

// batchLimit is what a batch takes at the most, so that it can leave as a message.
func (o options) batchLimit() int {
	room := o.limits.Room(o.topicPrefix, o.vehicleID)
	if room == 0 {
		return telemetry.MaxBatchBytes
	}
	return min(room, telemetry.MaxBatchBytes)
}
