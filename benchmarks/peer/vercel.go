package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// listAge is how old a list of certificates may be when a certificate is requested, as in the operator.
const listAge = 10 * time.Minute

type certificate struct {
	ID        string   `json:"id"`
	CNs       []string `json:"cns"`
	CreatedAt int64    `json:"createdAt"`
	ExpiresAt int64    `json:"expiresAt"`
	AutoRenew bool     `json:"autoRenew"`
}

type page struct {
	Certs      []certificate `json:"certs"`
	Pagination struct {
		Next *int64 `json:"next"`
	} `json:"pagination"`
}

// account is what is kept per token: slots, and the newest list.
type account struct {
	http  *http.Client
	url   string
	token string
	slots chan struct{}

	listing sync.Mutex
	listed  time.Time
	byNames map[string][]certificate
}

func (a *account) call(ctx context.Context, method, path string, body, answer any) (int, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, content)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	a.slots <- struct{}{}
	defer func() { <-a.slots }()
	response, err := a.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return response.StatusCode, fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, said)
	}
	if answer == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return response.StatusCode, err
	}
	return response.StatusCode, json.NewDecoder(response.Body).Decode(answer)
}

// known returns the certificates with exactly these names, by a list that is at most ten minutes old.
func (a *account) known(ctx context.Context, names string) ([]certificate, error) {
	a.listing.Lock()
	defer a.listing.Unlock()
	if time.Since(a.listed) < listAge {
		return a.byNames[names], nil
	}
	begun, found := time.Now(), map[string][]certificate{}
	for path := "/v8/certs?limit=100"; ; {
		var answer page
		if _, err := a.call(ctx, http.MethodGet, path, nil, &answer); err != nil {
			return nil, err
		}
		for _, one := range answer.Certs {
			key := joined(one.CNs)
			found[key] = append(found[key], one)
		}
		if answer.Pagination.Next == nil {
			break
		}
		path = "/v8/certs?limit=100&until=" + strconv.FormatInt(*answer.Pagination.Next, 10)
	}
	a.listed, a.byNames = begun, found
	return found[names], nil
}

func (a *account) get(ctx context.Context, id string) (certificate, error) {
	var answer certificate
	_, err := a.call(ctx, http.MethodGet, "/v8/certs/"+id, nil, &answer)
	return answer, err
}

func (a *account) issue(ctx context.Context, cns []string) (certificate, error) {
	var answer certificate
	_, err := a.call(ctx, http.MethodPost, "/v8/certs", map[string][]string{"cns": cns}, &answer)
	return answer, err
}

func (a *account) remove(ctx context.Context, id string) error {
	status, err := a.call(ctx, http.MethodDelete, "/v8/certs/"+id, nil, nil)
	if status == http.StatusNotFound {
		return nil
	}
	return err
}
