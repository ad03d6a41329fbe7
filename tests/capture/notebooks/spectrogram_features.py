# style: exploratory
# about: audio features by numpy and scipy: a window and a mel filter bank made once, frames by stride tricks, a nearest-centroid classifier over means, dB with a floor
# input: [float(v) for v in tone(440)]
# input: [float(v) for v in tone(880, noise=0.3)]
# input: [0.0] * 300
# input: [0.5] * 100
# insensitive: window, bank, centroids, FLOOR, FS, HOP, N
# insensitive: HOP
# undetected: _numpy_linalg
# %%
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal
# %%
FS, N, HOP, FLOOR = 4000, 256, 64, 1e-8
rng = np.random.default_rng(2)
def tone(hz, seconds=0.15, noise=0.05):
    t = np.arange(int(FS * seconds)) / FS
    return np.sin(2 * np.pi * hz * t) + noise * rng.normal(size=len(t))
# %%
window = signal.get_window("hann", N)
# %%
def mel(hz):
    return 2595 * np.log10(1 + hz / 700)

def filters(n=12):
    edges = np.linspace(0, mel(FS / 2), n + 2)
    freqs = mel(fft.rfftfreq(N, 1 / FS))
    up = (freqs - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - freqs) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(up, down), 0, None)

bank = filters()
bank.shape
# %%
def features(x):
    x = np.asarray(x, dtype=float)
    if len(x) < N:
        x = np.pad(x, (0, N - len(x)))
    frames = sliding_window_view(x, N)[::HOP] * window
    power = np.abs(fft.rfft(frames, axis=1)) ** 2
    logs = 10 * np.log10(np.maximum(power @ bank.T, FLOOR))
    return fft.dct(logs, axis=1, norm="ortho")[:, :6].mean(0)
# %%
centroids = {hz: np.mean([features(tone(hz)) for _ in range(4)], axis=0) for hz in (220, 440, 880)}
# %%
%%serve_handler tones --sample [float(v) for v in tone(440)]
def predict(batch):
    out = []
    for x in batch:
        f = features(x)
        d = {hz: float(np.linalg.norm(f - c)) for hz, c in centroids.items()}
        out.append({"hz": min(d, key=d.get), "d": [round(v, 3) for v in d.values()]})
    return out
