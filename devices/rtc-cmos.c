/*
 * An MC146818 real-time clock with 128 bytes of CMOS memory at ports 0x70 and 0x71, in UTC, from
 * the host's clock plus an offset that the guest sets by writing the time. It raises no interrupt:
 * alarm and periodic rate can be programmed and read back, and their flags never rise.
 *
 * VP threads; LOCKED by the device's lock.
 */
#include "config.h"

#include "devices/devices.h"
#include "qmp/gen/types.h"

#include <string.h>

#define RTC_PORT 0x70

enum {
    RTC_SECONDS = 0x00,
    RTC_MINUTES = 0x02,
    RTC_HOURS = 0x04,
    RTC_WEEKDAY = 0x06, /* 1 is Sunday */
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_REG_A = 0x0a,
    RTC_REG_B = 0x0b,
    RTC_REG_C = 0x0c,
    RTC_REG_D = 0x0d,
    RTC_CENTURY = 0x32, /* the ACPI FADT's CENTURY, and where every PC has it */
};

#define REG_A_UIP     0x80
#define REG_A_DEFAULT 0x26 /* 32.768 kHz time base, 1024 Hz periodic rate */
#define REG_B_SET     0x80
#define REG_B_BINARY  0x04
#define REG_B_24H     0x02
#define REG_D_VALID   0x80
#define HOUR_PM       0x80

#define CMOS_SIZE     128

/* The datasheet's tBUC: UIP is set this long before the registers change. */
#define UPDATE_LEAD_US 244
#define US_PER_S       G_USEC_PER_SEC

typedef struct RtcState {
    uint64_t offset_us; /* guest's clock less the host's, two's complement */
    uint8_t cmos[CMOS_SIZE];
    uint8_t index;
    uint8_t reserved[7];
} RtcState;

static const PtaStateField rtc_fields[] = {
    PTA_STATE_U64(RtcState, offset_us),
    PTA_STATE_BLOB(RtcState, cmos),
    PTA_STATE_U8(RtcState, index),
    PTA_STATE_BLOB(RtcState, reserved),
    {},
};

typedef struct Rtc {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
    GMutex lock;
    RtcState state; /* LOCKED(lock) */
} Rtc;

static Rtc *rtc_of(PtaDevice *dev)
{
    g_assert(dev->klass == &pta_rtc_cmos_class);
    return (Rtc *)dev;
}

static int64_t rtc_now_us(const Rtc *rtc)
{
    return (int64_t)((uint64_t)g_get_real_time() + rtc->state.offset_us);
}

static uint8_t encode(const Rtc *rtc, int value)
{
    return (uint8_t)(rtc->state.cmos[RTC_REG_B] & REG_B_BINARY ? value
                                                               : value / 10 << 4 | value % 10);
}

static int decode(const Rtc *rtc, uint8_t value)
{
    return rtc->state.cmos[RTC_REG_B] & REG_B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

/* The clock's time into the registers. */
static void registers_from_clock_locked(Rtc *rtc)
{
    uint8_t *cmos = rtc->state.cmos;
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(rtc_now_us(rtc) / US_PER_S);
    if (!t) { /* beyond the year 9999, by the guest's own setting: let it stand */
        return;
    }
    int hour = g_date_time_get_hour(t);
    cmos[RTC_SECONDS] = encode(rtc, g_date_time_get_second(t));
    cmos[RTC_MINUTES] = encode(rtc, g_date_time_get_minute(t));
    if (cmos[RTC_REG_B] & REG_B_24H) {
        cmos[RTC_HOURS] = encode(rtc, hour);
    } else {
        cmos[RTC_HOURS] = encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
    }
    cmos[RTC_WEEKDAY] = encode(rtc, g_date_time_get_day_of_week(t) % 7 + 1);
    cmos[RTC_DAY] = encode(rtc, g_date_time_get_day_of_month(t));
    cmos[RTC_MONTH] = encode(rtc, g_date_time_get_month(t));
    cmos[RTC_YEAR] = encode(rtc, g_date_time_get_year(t) % 100);
    cmos[RTC_CENTURY] = encode(rtc, g_date_time_get_year(t) / 100);
}

/* The registers' time into the clock; a date that does not exist leaves the clock as it is. */
static void clock_from_registers_locked(Rtc *rtc)
{
    const uint8_t *cmos = rtc->state.cmos;
    int hour;
    if (cmos[RTC_REG_B] & REG_B_24H) {
        hour = decode(rtc, cmos[RTC_HOURS]);
    } else {
        hour = decode(rtc, cmos[RTC_HOURS] & ~HOUR_PM) % 12 + (cmos[RTC_HOURS] & HOUR_PM ? 12 : 0);
    }
    int year = decode(rtc, cmos[RTC_CENTURY]) * 100 + decode(rtc, cmos[RTC_YEAR]);
    if (year < 1 || year > 9999) {
        return;
    }
    g_autoptr(GDateTime) t =
        g_date_time_new_utc(year, decode(rtc, cmos[RTC_MONTH]), decode(rtc, cmos[RTC_DAY]), hour,
                            decode(rtc, cmos[RTC_MINUTES]), decode(rtc, cmos[RTC_SECONDS]));
    if (t) {
        int64_t us = g_date_time_to_unix(t) * US_PER_S;
        rtc->state.offset_us = (uint64_t)us - (uint64_t)g_get_real_time();
    }
}

static bool is_time(unsigned index)
{
    return index == RTC_SECONDS || index == RTC_MINUTES || index == RTC_HOURS ||
           (index >= RTC_WEEKDAY && index <= RTC_YEAR) || index == RTC_CENTURY;
}

static uint8_t cmos_read_locked(Rtc *rtc, unsigned index)
{
    const uint8_t *cmos = rtc->state.cmos;
    bool frozen = cmos[RTC_REG_B] & REG_B_SET;
    if (is_time(index) && !frozen) {
        registers_from_clock_locked(rtc);
    }
    if (index == RTC_REG_A && !frozen) {
        int64_t us = rtc_now_us(rtc) % US_PER_S;
        return cmos[index] | (us >= US_PER_S - UPDATE_LEAD_US ? REG_A_UIP : 0);
    }
    return cmos[index];
}

static void cmos_write_locked(Rtc *rtc, unsigned index, uint8_t value)
{
    uint8_t *cmos = rtc->state.cmos;
    bool frozen = cmos[RTC_REG_B] & REG_B_SET;
    if (is_time(index)) {
        if (!frozen) {
            registers_from_clock_locked(rtc);
        }
        cmos[index] = value;
        if (!frozen) {
            clock_from_registers_locked(rtc);
        }
        return;
    }
    switch (index) {
    case RTC_REG_A:
        cmos[index] = value & ~REG_A_UIP;
        break;
    case RTC_REG_B:
        /* The registers keep the time when updates stop, and in the format that was theirs. */
        if (value & REG_B_SET && !frozen) {
            registers_from_clock_locked(rtc);
        }
        cmos[index] = value;
        if (frozen && !(value & REG_B_SET)) {
            clock_from_registers_locked(rtc);
        }
        break;
    case RTC_REG_C:
    case RTC_REG_D:
        break; /* read-only */
    default:
        cmos[index] = value;
        break;
    }
}

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    Rtc *rtc = rtc_of(opaque);
    if (offset == 0) {
        return UINT64_MAX; /* the index cannot be read back on a PC */
    }
    g_mutex_lock(&rtc->lock);
    uint8_t value = cmos_read_locked(rtc, rtc->state.index);
    g_mutex_unlock(&rtc->lock);
    return value;
}

static void rtc_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Rtc *rtc = rtc_of(opaque);
    g_mutex_lock(&rtc->lock);
    if (offset == 0) {
        rtc->state.index = value & (CMOS_SIZE - 1); /* bit 7 masks NMI on a PC; there is none */
        if (size == 2) {
            cmos_write_locked(rtc, rtc->state.index, (uint8_t)(value >> 8));
        }
    } else {
        cmos_write_locked(rtc, rtc->state.index, (uint8_t)value);
    }
    g_mutex_unlock(&rtc->lock);
}

static const PtaBusOps rtc_ops = { .read = rtc_read, .write = rtc_write, .index_size = 1 };

static bool rtc_realize(PtaDevice *dev, const void *config, GError **error)
{
    const RtcCmosConfig *c = config; /* NULL: nothing was said */
    Rtc *rtc = rtc_of(dev);
    if (c && c->base) {
        g_autoptr(GDateTime) t =
            g_str_has_suffix(c->base, "Z") ? g_date_time_new_from_iso8601(c->base, NULL) : NULL;
        if (!t) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "base: expected YYYY-MM-DDTHH:MM:SSZ, found \"%s\"", c->base);
        }
        int64_t us = g_date_time_to_unix(t) * US_PER_S;
        rtc->state.offset_us = (uint64_t)us - (uint64_t)g_get_real_time();
    }
    rtc->state.cmos[RTC_REG_A] = REG_A_DEFAULT;
    rtc->state.cmos[RTC_REG_B] = REG_B_24H;
    rtc->state.cmos[RTC_REG_D] = REG_D_VALID;
    PtaIrqLine none;
    if (!dev->host->place(dev->host, dev, PTA_PLACED_RTC_CMOS, true, RTC_PORT, 2, &rtc_ops, false,
                          -1, &rtc->placed, &none, error)) {
        return false;
    }
    g_mutex_init(&rtc->lock);
    return true;
}

static void rtc_unrealize(PtaDevice *dev)
{
    g_mutex_clear(&rtc_of(dev)->lock);
}

/* Clock and memory live on a battery: a reset clears the interrupt enables and no more. */
static void rtc_reset(PtaDevice *dev)
{
    Rtc *rtc = rtc_of(dev);
    rtc->state.index = 0;
    rtc->state.cmos[RTC_REG_B] &= REG_B_SET | REG_B_BINARY | REG_B_24H;
}

static bool rtc_validate(const void *state, GError **error)
{
    const RtcState *s = state;
    bool ok = s->index < CMOS_SIZE && !(s->cmos[RTC_REG_A] & REG_A_UIP) &&
              s->cmos[RTC_REG_C] == 0 && s->cmos[RTC_REG_D] == REG_D_VALID;
    for (size_t i = 0; i < sizeof(s->reserved) && ok; i++) {
        ok = s->reserved[i] == 0;
    }
    return ok || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a register has bits that cannot be set");
}

static const PtaStateDesc rtc_state = {
    .name = "rtc-cmos",
    .version = 1,
    .size = sizeof(RtcState),
    .fields = rtc_fields,
    .validate = rtc_validate,
};

static void rtc_inspect(PtaDevice *dev, PtaInspect *req)
{
    Rtc *rtc = rtc_of(dev);
    g_mutex_lock(&rtc->lock);
    RtcState state = rtc->state;
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(rtc_now_us(rtc) / US_PER_S);
    g_mutex_unlock(&rtc->lock);
    g_autofree char *text = t ? g_date_time_format_iso8601(t) : g_strdup("?");
    pta_inspect_str(req, "time", PTA_INSPECT_PLAIN, text);
    pta_inspect_s64(req, "offset-us", PTA_INSPECT_PLAIN, (int64_t)state.offset_us);
    pta_inspect_u64(req, "index", PTA_INSPECT_HEX, state.index);
    pta_inspect_bytes(req, "cmos", PTA_INSPECT_PLAIN, state.cmos, sizeof(state.cmos));
}

const PtaDeviceClass pta_rtc_cmos_class = {
    .type = "rtc-cmos",
    .instance_size = sizeof(Rtc),
    .state = &rtc_state,
    .state_offset = offsetof(Rtc, state),
    .realize = rtc_realize,
    .reset = rtc_reset,
    .unrealize = rtc_unrealize,
    .inspect = rtc_inspect,
};
