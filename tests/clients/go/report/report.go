// Package report holds what the Go clients share: repeat one S3 call, time it, print one JSON line (see
// ../../README.md).
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

type line struct {
	Client    string  `json:"client"`
	Version   string  `json:"version"`
	OK        bool    `json:"ok"`
	Calls     int     `json:"calls"`
	Bytes     int64   `json:"bytes"`
	FirstMs   float64 `json:"first_ms,omitempty"`
	ElapsedMs float64 `json:"elapsed_ms"`
	Error     string  `json:"error,omitempty"`
}

// Call makes one S3 call and returns how many bytes it read.
type Call func() (int64, error)

// Run builds the client once with connect, makes CLIENT_CALLS calls with what it returns, prints the result and
// exits 0 or 1. The version reported is that of the Go module named.
func Run(client, module string, connect func() (Call, error)) {
	result := line{Client: client, Version: moduleVersion(module)}
	start := time.Now()
	err := result.measure(start, connect)
	result.ElapsedMs = millisecondsSince(start)
	result.OK = err == nil
	if err != nil {
		result.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil || !result.OK {
		os.Exit(1)
	}
}

// VirtualHosts reports whether the bucket belongs in the host name instead of the path.
func VirtualHosts() bool {
	return os.Getenv("S3_ADDRESSING") == "virtual"
}

func (result *line) measure(start time.Time, connect func() (Call, error)) error {
	calls := 1
	if text := os.Getenv("CLIENT_CALLS"); text != "" {
		number, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("CLIENT_CALLS: %w", err)
		}
		calls = number
	}
	call, err := connect()
	if err != nil {
		return err
	}
	for range calls {
		if result.Bytes, err = call(); err != nil {
			return err
		}
		result.Calls++
		if result.Calls == 1 {
			result.FirstMs = millisecondsSince(start)
		}
	}
	return nil
}

func millisecondsSince(start time.Time) float64 {
	return float64(time.Since(start).Microseconds()) / 1000
}

func moduleVersion(module string) string {
	build, ok := debug.ReadBuildInfo()
	if ok {
		for _, dependency := range build.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "unknown"
}
