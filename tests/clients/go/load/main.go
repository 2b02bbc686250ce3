// Command load is the AWS SDK for Go v2 as a process that has just started sees it, again and again: each time a new
// configuration, credentials fetched anew, one S3 call. It counts as tests/node/clients/counts.py does.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Between two lines.
const lineInterval = 200 * time.Millisecond

type counts struct {
	At     float64        `json:"at"`
	Asked  uint64         `json:"asked"`
	Failed uint64         `json:"failed"`
	Errors map[string]int `json:"errors"`
	Keys   []string       `json:"keys"`
}

func main() {
	milliseconds, err := strconv.Atoi(os.Getenv("LOAD_INTERVAL_MS"))
	if err != nil {
		log.Fatalf("LOAD_INTERVAL_MS: %v", err)
	}
	interval := time.Duration(milliseconds) * time.Millisecond
	seen := counts{Errors: map[string]int{}, Keys: []string{}}
	printed := time.Now()
	for due := time.Now(); ; time.Sleep(time.Until(due)) {
		key, err := ask(context.Background())
		switch {
		case err != nil:
			seen.Failed++
			seen.Errors[err.Error()]++
		case !slices.Contains(seen.Keys, key):
			seen.Keys = append(seen.Keys, key)
		}
		seen.Asked++
		now := time.Now()
		if now.Sub(printed) >= lineInterval {
			printed = now
			seen.At = float64(now.UnixMicro()) / 1e6
			if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
				log.Fatal(err)
			}
		}
		due = due.Add(interval)
		if due.Before(now) {
			due = now
		}
	}
}

// ask reads the object, and returns the access key that it was signed with.
func ask(ctx context.Context) (string, error) {
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", err
	}
	client := s3.NewFromConfig(loaded, func(options *s3.Options) {
		options.BaseEndpoint = aws.String("http://cwlota.com")
	})
	answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String("object")})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return "", err
	}
	used, err := loaded.Credentials.Retrieve(ctx)
	return used.AccessKeyID, err
}
