/* mbench: one-thread epoll load generator for IMAP, POP3, SMTP, LMTP.  cc -O2 -o mbench mbench.c -lssl -lcrypto
 * Prints one JSON line.  See README.md for the modes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { P_IMAP, P_POP3, P_SMTP, P_LMTP };
enum { S_CONN, S_TLS, S_GREET, S_USER, S_LOGIN, S_SELECT, S_IDLE, S_HELD, S_CMD, S_LIT, S_QUIT,
       S_HELO, S_MAIL, S_RCPT, S_DATA, S_BODY, S_DEAD };

static const char *host = "127.0.0.1", *port = "143", *user = "u%d", *pass = "pass", *mode = "login",
  *mbox = NULL, *cmdt = "NOOP", *domain = "example.test", *helo = "bench.example.test", *label = "", *from = "s@example.test";
static int proto = P_IMAP, users = 1, first = 1, conns = 1, size = 4096, tls = 0, rn = 1, ramp = 64, litplus = 0,
  pipelining = 0, permsg = 0, srvpid = 0, doidle = 0, shuffle = 0, perconn = 0, resume = 0, rcpts = 1;
static double secs = 5, warm = 0.5, hold = 5, timeout_s = 120;
static long count = 0;

typedef struct { int fd, st, idx, want_w; SSL *ssl; char *out; size_t ol, oo, oc; char line[512]; int ll; long lit; char lend[24]; int lendn;
  long iter; int rcptn, expect, tagn; uint64_t t0, tstart; int quitting, popmulti; } conn;

static int ep; static SSL_CTX *ctx; static SSL_SESSION *sess; static conn *cs; static struct addrinfo *ai;
static uint64_t tmeas, tend, done, errs, rxb, rxall, started, held, issued, dead, lastdone; static long inflight_conn; static int measuring;
static uint32_t *lat; static size_t nlat, clat; static char *body; static size_t bodyl; static char *serial; static char errline[256];

static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static uint32_t rs = 12345; static uint32_t rnd(void) { rs ^= rs << 13; rs ^= rs >> 17; rs ^= rs << 5; return rs; }
static double selfcpu(void) { struct rusage r; getrusage(RUSAGE_SELF, &r); return r.ru_utime.tv_sec + r.ru_utime.tv_usec / 1e6 + r.ru_stime.tv_sec + r.ru_stime.tv_usec / 1e6; }
static double busycpu(void) { FILE *f = fopen("/proc/stat", "r"); unsigned long long a[8] = {0}; if (!f) return 0;
  if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", a, a+1, a+2, a+3, a+4, a+5, a+6, a+7) < 7) a[0] = 0;
  fclose(f); return (a[0] + a[1] + a[2] + a[5] + a[6]) / (double)sysconf(_SC_CLK_TCK); }
/* non-reclaimable memory in KiB */
static long usedkb(void) { FILE *f = fopen("/proc/meminfo", "r"); char k[64]; long v, t = 0, u = 0; char l[256]; if (!f) return 0;
  while (fgets(l, sizeof l, f)) if (sscanf(l, "%63[^:]: %ld", k, &v) == 2) { if (!strcmp(k, "MemTotal")) t = v;
    else if (!strcmp(k, "MemFree") || !strcmp(k, "Buffers") || !strcmp(k, "Cached") || !strcmp(k, "SReclaimable")) u += v; else if (!strcmp(k, "Shmem")) u -= v; }
  fclose(f); return t - u; }
/* sum of Pss and Rss (KiB) and cpu seconds over the process tree of srvpid */
typedef struct { long pss, rss, n; double cpu; } tree;
static tree treesum(int root, int mem) { tree t = {0}; if (!root) return t; static int pid[70000], pp[70000]; static char in[70000]; static double cpu[70000]; int n = 0; DIR *d = opendir("/proc"); struct dirent *e;
  while (d && (e = readdir(d)) && n < 70000) { if (e->d_name[0] < '0' || e->d_name[0] > '9') continue; char p[64], b[1024]; snprintf(p, 64, "/proc/%s/stat", e->d_name); FILE *f = fopen(p, "r"); if (!f) continue;
    size_t k = fread(b, 1, 1023, f); fclose(f); b[k] = 0; char *q = strrchr(b, ')'); int par; unsigned long u, s; long cu, c2; if (!q || sscanf(q + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &par, &u, &s, &cu, &c2) != 5) continue;
    pid[n] = atoi(e->d_name); pp[n] = par; in[n] = pid[n] == root; cpu[n] = (u + s + cu + c2) / (double)sysconf(_SC_CLK_TCK); n++; }
  if (d) closedir(d);
  for (int ch = 1; ch;) { ch = 0; for (int i = 0; i < n; i++) if (!in[i]) for (int j = 0; j < n; j++) if (in[j] && pid[j] == pp[i]) { in[i] = 1; ch = 1; break; } }
  for (int i = 0; i < n; i++) if (in[i]) { t.n++; t.cpu += cpu[i]; if (mem) { char p[64], l[256]; snprintf(p, 64, "/proc/%d/smaps_rollup", pid[i]); FILE *f = fopen(p, "r"); long v; if (f) { while (fgets(l, 256, f)) { if (sscanf(l, "Pss: %ld", &v) == 1) t.pss += v; else if (sscanf(l, "Rss: %ld", &v) == 1) t.rss += v; } fclose(f); } } }
  return t; }
static void add_lat(uint64_t ns) { if (!measuring) return; if (nlat == clat) { clat = clat ? clat * 2 : 65536; lat = realloc(lat, clat * sizeof *lat); } uint64_t us = ns / 100; lat[nlat++] = us > 0xffffffffu ? 0xffffffffu : us; }
static int cmpu(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return x < y ? -1 : x > y; }

static void put(conn *c, const char *d, size_t n) { if (c->oo && c->oo == c->ol) c->oo = c->ol = 0; if (c->ol + n > c->oc) { c->oc = (c->ol + n) * 2; c->out = realloc(c->out, c->oc); } memcpy(c->out + c->ol, d, n); c->ol += n; }
static void putf(conn *c, const char *f, ...) { char b[4096]; va_list a; va_start(a, f); int n = vsnprintf(b, sizeof b, f, a); va_end(a); put(c, b, n); }
static void mod(conn *c, int w) { if (c->want_w == w) return; c->want_w = w; struct epoll_event e = { .events = EPOLLIN | (w ? EPOLLOUT : 0), .data.ptr = c }; epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e); }
static void fin(conn *c, int err);
static void flush(conn *c) { while (c->oo < c->ol) { ssize_t n; if (c->ssl) { n = SSL_write(c->ssl, c->out + c->oo, c->ol - c->oo); if (n <= 0) { int e = SSL_get_error(c->ssl, n); if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ) { mod(c, 1); return; } fin(c, 1); return; } }
    else { n = send(c->fd, c->out + c->oo, c->ol - c->oo, MSG_NOSIGNAL); if (n < 0) { if (errno == EAGAIN) { mod(c, 1); return; } fin(c, 1); return; } } c->oo += n; }
  c->oo = c->ol = 0; if (c->st != S_CONN && c->st != S_TLS) mod(c, 0); }
static int uid(conn *c) { return first + (permsg ? (shuffle ? rnd() : started + c->iter) % users : c->idx % users); }
static void username(conn *c, char *b, size_t n) { snprintf(b, n, user, uid(c)); }
static void expand(conn *c, char *o, size_t n) { size_t k = 0; for (const char *p = cmdt; *p && k + 24 < n; p++) { if (*p == '%' && p[1]) { p++; switch (*p) { case 'r': k += sprintf(o + k, "%u", 1 + rnd() % rn); break; case 'i': k += sprintf(o + k, "%ld", 1 + c->iter % rn); break; case 'c': k += sprintf(o + k, "%d", c->idx); break; case 'f': o[k++] = c->iter & 1 ? '-' : '+'; break; default: o[k++] = *p; } } else o[k++] = *p; } o[k] = 0; }
static void startconn(conn *c) { c->st = S_CONN; c->ll = 0; c->lit = 0; c->lendn = 0; c->oo = c->ol = 0; c->quitting = 0; c->tagn = 0; c->want_w = 1; c->t0 = c->tstart = now(); started++; inflight_conn++;
  c->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0); if (c->fd < 0) { perror("socket"); exit(2); } int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
  if (!strcmp(mode, "login") || !strcmp(mode, "smtp")) { struct linger l = {0, 0}; (void)l; }
  int r = connect(c->fd, ai->ai_addr, ai->ai_addrlen); struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c }; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e); if (r < 0 && errno != EINPROGRESS) { snprintf(errline, sizeof errline, "connect: %s", strerror(errno)); fin(c, 1); } }
static int more(void) { uint64_t t = now(); return count ? issued < (uint64_t)count : t < tend; }
static void fin(conn *c, int err) { if (c->st == S_DEAD) return; if (c->st < S_HELD) inflight_conn--; else if (c->st == S_HELD) held--; if (err) { errs++; if (!errline[0]) snprintf(errline, sizeof errline, "closed in state %d: %.200s", c->st, c->line); }
  if (c->ssl) { if (!err && c->quitting) SSL_shutdown(c->ssl); SSL_free(c->ssl); c->ssl = NULL; } close(c->fd); c->fd = -1; c->st = S_DEAD; dead++;
  if (err && errs > 1000) { fprintf(stderr, "too many errors: %s\n", errline); exit(3); }
  if ((!strcmp(mode, "login") || (!strcmp(mode, "smtp") && !err && c->quitting) || (err && strcmp(mode, "idle"))) && more()) { dead--; startconn(c); } }
static void next(conn *c);
static void onedone(conn *c) { uint64_t t = now(); lastdone = t; if (measuring) { done++; } add_lat(t - c->t0); c->iter++; }
static void quit(conn *c) { if (c->st < S_HELD) inflight_conn--; c->quitting = 1; c->st = S_QUIT; if (proto == P_IMAP) putf(c, "Q LOGOUT\r\n"); else putf(c, "QUIT\r\n"); }
static void sendcmd(conn *c) { char b[2048]; c->st = S_CMD; c->t0 = now(); issued++;
  if (proto == P_POP3) { expand(c, b, sizeof b); c->popmulti = !strncasecmp(b, "RETR", 4) || !strcasecmp(b, "LIST") || !strcasecmp(b, "UIDL") || !strncasecmp(b, "TOP", 3); putf(c, "%s\r\n", b); return; }
  if (!strcmp(mode, "append")) { if (litplus) { putf(c, "A APPEND %s {%zu+}\r\n", mbox ? mbox : "INBOX", bodyl); put(c, body, bodyl); put(c, "\r\n", 2); } else { c->st = S_LIT; putf(c, "A APPEND %s {%zu}\r\n", mbox ? mbox : "INBOX", bodyl); } }
  else { expand(c, b, sizeof b); putf(c, "A %s\r\n", b); } }
static void mailtrans(conn *c) { char u[256]; c->t0 = now(); issued++; c->st = S_MAIL; c->rcptn = 0; putf(c, "MAIL FROM:<%s>\r\n", from);
  if (pipelining) { for (int i = 0; i < rcpts; i++) { username(c, u, sizeof u); putf(c, "RCPT TO:<%s@%s>\r\n", u, domain); } putf(c, "DATA\r\n"); } }
/* every message its own Message-ID: real mail is never the same twice */
static void number(void) { static unsigned long n; unsigned long v = ++n; for (int i = 8; i >= 0; i--) { serial[i] = '0' + v % 10; v /= 10; } }
static void afterlogin(conn *c) { if (mbox && strcmp(mode, "append") && proto == P_IMAP) { c->st = S_SELECT; putf(c, "A SELECT %s\r\n", mbox); } else next(c); }
static void next(conn *c) { /* the session is ready */
  if (!strcmp(mode, "login")) { quit(c); return; }
  if (!strcmp(mode, "idle")) { if (doidle && c->st != S_IDLE && proto == P_IMAP) { c->st = S_IDLE; putf(c, "A IDLE\r\n"); return; } inflight_conn--; held++; c->st = S_HELD; onedone(c); return; }
  if (c->st < S_HELD) { inflight_conn--; c->st = S_HELO; } if (!more() || (perconn && c->iter && c->iter % perconn == 0 && c->st == S_CMD)) { quit(c); return; } sendcmd(c); }
/* a full response line (IMAP: outside literals); returns 0 when the conn died */
static void fail(conn *c) { errs++; if (!errline[0]) snprintf(errline, sizeof errline, "state %d: %.200s", c->st, c->line); c->st = c->st; quit(c); if (errs > 1000) { fprintf(stderr, "too many errors: %s\n", errline); exit(3); } }
static void line(conn *c) { char *l = c->line; char u[256];
  if (proto == P_IMAP) {
    if (c->st == S_GREET) { if (l[0] != '*') { fail(c); return; } c->st = S_LOGIN; username(c, u, sizeof u); putf(c, "A LOGIN %s %s\r\n", u, pass); return; }
    if (l[0] == '+') { if (c->st == S_IDLE) next(c); else if (c->st == S_LIT) { put(c, body, bodyl); put(c, "\r\n", 2); c->st = S_CMD; } return; }
    if (l[0] == '*') return;
    int ok = !strncmp(l + 2, "OK", 2);
    if (l[0] == 'Q') { if (!strcmp(mode, "login")) { onedone(c); issued++; } fin(c, 0); return; }
    if (l[0] != 'A') return; if (!ok) { fail(c); return; }
    if (c->st == S_LOGIN) afterlogin(c); else if (c->st == S_SELECT) next(c); else if (c->st == S_CMD) { onedone(c); next(c); } return; }
  if (proto == P_POP3) {
    if (c->popmulti && c->st == S_CMD) { if (c->popmulti == 1) { if (l[0] != '+') { fail(c); return; } c->popmulti = 2; } else if (l[0] == '.' && !l[1]) { c->popmulti = 0; onedone(c); next(c); } return; }
    if (l[0] != '+') { if (c->st == S_QUIT) { fin(c, 0); return; } fail(c); return; }
    switch (c->st) { case S_GREET: c->st = S_USER; username(c, u, sizeof u); putf(c, "USER %s\r\n", u); break; case S_USER: c->st = S_LOGIN; putf(c, "PASS %s\r\n", pass); break;
      case S_LOGIN: if (mbox) { c->st = S_SELECT; putf(c, "STAT\r\n"); } else next(c); break; case S_SELECT: next(c); break; case S_CMD: onedone(c); next(c); break; case S_QUIT: if (!strcmp(mode, "login")) { onedone(c); issued++; } fin(c, 0); break; } return; }
  /* SMTP, LMTP */
  if (l[3] == '-') return; int code = atoi(l);
  switch (c->st) {
    case S_GREET: if (code != 220) { fail(c); return; } c->st = S_HELO; putf(c, "%s %s\r\n", proto == P_LMTP ? "LHLO" : "EHLO", helo); break;
    case S_HELO: if (code != 250) { fail(c); return; } inflight_conn--; c->st = S_MAIL; if (!strcmp(mode, "login")) { quit(c); break; } if (!strcmp(mode, "idle")) { held++; c->st = S_HELD; onedone(c); break; } mailtrans(c); break;
    case S_MAIL: if (code != 250) { fail(c); return; } c->st = S_RCPT; if (!pipelining) { username(c, u, sizeof u); putf(c, "RCPT TO:<%s@%s>\r\n", u, domain); } break;
    case S_RCPT: if (code != 250) { fail(c); return; } if (++c->rcptn < rcpts) { if (!pipelining) { username(c, u, sizeof u); putf(c, "RCPT TO:<%s@%s>\r\n", u, domain); } break; } c->st = S_DATA; if (!pipelining) putf(c, "DATA\r\n"); break;
    case S_DATA: if (code != 354) { fail(c); return; } c->st = S_BODY; number(); put(c, body, bodyl); put(c, ".\r\n", 3); c->expect = proto == P_LMTP ? rcpts : 1; break;
    case S_BODY: if (code != 250) { fail(c); return; } if (--c->expect > 0) break; onedone(c); if (!more()) quit(c); else if (perconn && c->iter % perconn == 0) quit(c); else mailtrans(c); break;
    case S_QUIT: if (!strcmp(mode, "login")) { onedone(c); issued++; } fin(c, 0); break; } }
static void feed(conn *c, char *b, size_t n) { rxall += n; if (measuring) rxb += n; size_t i = 0;
  while (i < n && c->st != S_DEAD) { if (c->lit > 0) { size_t k = n - i < (size_t)c->lit ? n - i : (size_t)c->lit; i += k; c->lit -= k; continue; }
    char *nl = memchr(b + i, '\n', n - i); size_t k = nl ? (size_t)(nl - b - i) + 1 : n - i;
    /* keep the first 500 bytes of the line and its last 23 (for a literal's length) */
    size_t cp = k; if (c->ll + cp > 500) cp = 500 - c->ll; memcpy(c->line + c->ll, b + i, cp); c->ll += cp;
    if (proto == P_IMAP) { if (k >= 23) { memcpy(c->lend, b + i + k - 23, 23); c->lendn = 23; } else { int keep = c->lendn + (int)k > 23 ? 23 - (int)k : c->lendn; memmove(c->lend, c->lend + c->lendn - keep, keep); memcpy(c->lend + keep, b + i, k); c->lendn = keep + k; } }
    i += k; if (!nl) break;
    while (c->ll && (c->line[c->ll - 1] == '\n' || c->line[c->ll - 1] == '\r')) c->ll--; c->line[c->ll] = 0;
    if (proto == P_IMAP) { char *e = c->lend; int m = c->lendn; while (m && (e[m - 1] == '\n' || e[m - 1] == '\r')) m--; c->lendn = 0; if (m && e[m - 1] == '}') { int q = m - 1; while (q > 0 && e[q - 1] >= '0' && e[q - 1] <= '9') q--; if (q > 0 && e[q - 1] == '{' && q < m - 1) { c->lit = atol(e + q); if (c->lit > 0) { if (c->ll > 400) c->ll = 2; continue; } } } }
    c->ll = 0; line(c); } }
static char rb[1 << 18];
static void ev(conn *c, uint32_t e) { if (c->st == S_DEAD) return;
  if (c->st == S_CONN && (e & (EPOLLOUT | EPOLLERR | EPOLLHUP))) { int er = 0; socklen_t sl = sizeof er; getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &er, &sl); if (er) { snprintf(errline, sizeof errline, "connect: %s", strerror(er)); fin(c, 1); return; }
    if (tls) { c->ssl = SSL_new(ctx); SSL_set_fd(c->ssl, c->fd); SSL_set_tlsext_host_name(c->ssl, "localhost"); if (resume && sess) SSL_set_session(c->ssl, sess); c->st = S_TLS; } else { c->st = S_GREET; mod(c, 0); } }
  if (c->st == S_TLS) { int r = SSL_connect(c->ssl); if (r == 1) { c->st = S_GREET; mod(c, 0); } else { int x = SSL_get_error(c->ssl, r); if (x == SSL_ERROR_WANT_READ) mod(c, 0); else if (x == SSL_ERROR_WANT_WRITE) mod(c, 1); else { fin(c, 1); } return; } }
  if ((e & (EPOLLIN | EPOLLHUP | EPOLLERR)) || c->ssl) for (;;) { ssize_t n; if (c->ssl) { n = SSL_read(c->ssl, rb, sizeof rb); if (n <= 0) { int x = SSL_get_error(c->ssl, n); if (x == SSL_ERROR_WANT_READ || x == SSL_ERROR_WANT_WRITE) break; ERR_clear_error(); fin(c, c->st != S_QUIT); return; } }
      else { n = recv(c->fd, rb, sizeof rb, 0); if (n < 0 && errno == EAGAIN) break; if (n <= 0) { fin(c, c->st != S_QUIT); return; } }
      feed(c, rb, n); if (c->st == S_DEAD || c->st == S_CONN) return; if (!c->ssl && (size_t)n < sizeof rb) break; }
  flush(c); }
static int newsess(SSL *s, SSL_SESSION *x) { (void)s; if (sess) SSL_SESSION_free(sess); sess = x; return 1; }
static double pct(double p) { if (!nlat) return 0; size_t i = (size_t)(p * (nlat - 1)); return lat[i] / 1e4; }
int main(int ac, char **av) {
  for (int i = 1; i < ac; i++) { char *a = av[i]; if (a[0] != '-') { mode = a; continue; } a += 2; char *v = i + 1 < ac ? av[++i] : "";
#define O(n) (!strcmp(a, n))
    if O("host") host = v; else if O("port") port = v; else if O("user") user = v; else if O("pass") pass = v; else if O("mailbox") mbox = v; else if O("cmd") cmdt = v; else if O("domain") domain = v; else if O("helo") helo = v; else if O("from") from = v; else if O("label") label = v;
    else if O("users") users = atoi(v); else if O("first") first = atoi(v); else if O("conns") conns = atoi(v); else if O("size") size = atoi(v); else if O("tls") tls = atoi(v); else if O("n") rn = atoi(v); else if O("ramp") ramp = atoi(v); else if O("litplus") litplus = atoi(v); else if O("pipelining") pipelining = atoi(v); else if O("permsg") permsg = atoi(v); else if O("srvpid") srvpid = atoi(v); else if O("idle") doidle = atoi(v); else if O("shuffle") shuffle = atoi(v); else if O("perconn") perconn = atoi(v); else if O("resume") resume = atoi(v); else if O("rcpts") rcpts = atoi(v);
    else if O("secs") secs = atof(v); else if O("warm") warm = atof(v); else if O("hold") hold = atof(v); else if O("timeout") timeout_s = atof(v); else if O("count") count = atol(v);
    else if O("proto") proto = !strcmp(v, "pop3") ? P_POP3 : !strcmp(v, "smtp") ? P_SMTP : !strcmp(v, "lmtp") ? P_LMTP : P_IMAP; else { fprintf(stderr, "unknown --%s\n", a); return 2; } }
  signal(SIGPIPE, SIG_IGN); struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max = rl.rlim_max < 100000 ? 100000 : rl.rlim_max; if (setrlimit(RLIMIT_NOFILE, &rl)) { getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl); }
  struct addrinfo h = { .ai_socktype = SOCK_STREAM }; if (getaddrinfo(host, port, &h, &ai)) { fprintf(stderr, "bad host\n"); return 2; }
  if (tls) { ctx = SSL_CTX_new(TLS_client_method()); if (resume) { SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT); SSL_CTX_sess_set_new_cb(ctx, newsess); } else SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); }
  ep = epoll_create1(0); cs = calloc(conns, sizeof *cs); body = malloc(size + 1024);
  bodyl = sprintf(body, "From: Bench <%s>\r\nTo: <x@%s>\r\nSubject: bench message %d\r\nDate: Mon, 23 Nov 2026 03:00:00 +0000\r\nMessage-ID: <%d.%ld.000000000@bench.example.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", from, domain, (int)getpid(), (int)getpid(), (long)time(NULL));
  serial = strstr(body, ".000000000@") + 1;
  while (bodyl + 78 <= (size_t)size) { for (int k = 0; k < 76; k++) body[bodyl++] = k % 8 == 7 ? ' ' : 'a' + rnd() % 26; body[bodyl++] = '\r'; body[bodyl++] = '\n'; }
  int isidle = !strcmp(mode, "idle"); tree t0 = treesum(srvpid, isidle); long m0 = usedkb(); double c0 = selfcpu(), b0 = busycpu(); uint64_t ts = now();
  tmeas = ts + (count || isidle ? 0 : (uint64_t)(warm * 1e9)); tend = count ? UINT64_MAX : tmeas + (uint64_t)(secs * 1e9); measuring = count || isidle; if (count && !isidle) ramp = conns; uint64_t tready = 0, tm = ts; int opened = 0; struct epoll_event evs[512];
  tree tB = t0; double cB = c0, bB = b0;
  for (int i = 0; i < conns; i++) { cs[i].idx = i; cs[i].fd = -1; cs[i].st = S_DEAD; }
  for (;;) { uint64_t t = now();
    if (!measuring && !tready && t >= tmeas) { measuring = 1; tm = t; cB = selfcpu(); bB = busycpu(); tB = treesum(srvpid, 0); }
    while (opened < conns && inflight_conn < ramp) startconn(&cs[opened++]);
    if (isidle) { if (opened == conns && !inflight_conn && !tready) { tready = t; cB = selfcpu(); bB = busycpu(); } if (tready && t > tready + (uint64_t)(hold * 1e9)) break; }
    else { if (dead == (uint64_t)conns && opened == conns) break; if (!count && t > tend + 5000000000ull) break; }
    if (t - ts > (uint64_t)(timeout_s * 1e9) + (isidle || count ? 0 : (uint64_t)((secs + warm) * 1e9))) { snprintf(errline, sizeof errline, "timeout"); break; }
    if (!isidle && !count && t >= tend && measuring && tready == 0) { tready = t; measuring = 0; goto snap; }
    cont:; int n = epoll_wait(ep, evs, 512, 50); for (int i = 0; i < n; i++) ev(evs[i].data.ptr, evs[i].events); continue;
    snap: { double c1 = selfcpu(), b1 = busycpu(); tree t1 = treesum(srvpid, 0); c0 = c1 - cB; b0 = b1 - bB; t0.cpu = t1.cpu - tB.cpu; t0.n = t1.n; } goto cont; }
  if (isidle) { tree t1 = treesum(srvpid, 1); long m1 = usedkb(); double c1 = selfcpu(), b1 = busycpu(); long self = 0; FILE *f = fopen("/proc/self/statm", "r"); if (f) { long x; if (fscanf(f, "%ld %ld", &x, &self) != 2) self = 0; fclose(f); } self *= 4;
    printf("{\"label\":\"%s\",\"mode\":\"idle\",\"proto\":%d,\"tls\":%d,\"conns\":%d,\"held\":%lu,\"errors\":%lu,\"ramp_s\":%.2f,\"kib_per_conn_machine\":%.2f,\"srv_procs\":%ld,\"srv_pss_kib_per_conn\":%.2f,\"srv_rss_kib_per_conn\":%.2f,\"client_rss_kib\":%ld,\"hold_cpu_s\":%.2f,\"hold_s\":%.1f%s%s%s}\n", label, proto, tls, conns, held, errs, (tready - ts) / 1e9, held ? (double)(m1 - m0 - self) / held : 0, t1.n, held ? (double)(t1.pss - t0.pss) / held : 0, held ? (double)(t1.rss - t0.rss) / held : 0, self, b1 - bB - (c1 - cB), hold, errline[0] ? ",\"error\":\"" : "", errline, errline[0] ? "\"" : ""); return held == (uint64_t)conns ? 0 : 1; }
  double el; if (count) { el = (lastdone - ts) / 1e9; c0 = selfcpu() - c0; b0 = busycpu() - b0; tree t1 = treesum(srvpid, 0); t0.cpu = t1.cpu - t0.cpu; } else el = (tready - tm) / 1e9;
  qsort(lat, nlat, sizeof *lat, cmpu);
  printf("{\"label\":\"%s\",\"mode\":\"%s\",\"proto\":%d,\"tls\":%d,\"conns\":%d,\"secs\":%.3f,\"done\":%lu,\"per_s\":%.1f,\"rx_mb_s\":%.2f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"errors\":%lu,\"client_cpu_s\":%.2f,\"machine_busy_s\":%.2f,\"srv_cpu_s\":%.2f%s%s%s}\n", label, mode, proto, tls, conns, el, done, done / el, rxb / el / 1e6, pct(.5), pct(.9), pct(.99), pct(1), errs, c0, b0, t0.cpu, errline[0] ? ",\"error\":\"" : "", errline, errline[0] ? "\"" : ""); return done == 0; }
